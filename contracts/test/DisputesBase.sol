// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Epochs} from "../src/Epochs.sol";
import {FallowDisputes} from "../src/FallowDisputes.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {Base} from "./Base.t.sol";
import {Line, Packing} from "./Packing.sol";

/// @dev The leaf formats, callable with memory.
contract Leaves {
    function claim(Epochs.Claim calldata one, address escrow, uint64 epoch) external view returns (bytes32) {
        return Epochs.claimLeaf(one, escrow, epoch);
    }

    function allocation(Epochs.Claim calldata one, address escrow, uint64 epoch, uint32 lineIndex)
        external
        view
        returns (bytes32)
    {
        return Epochs.allocationLeaf(one, escrow, epoch, lineIndex);
    }
}

/// @dev Four leaves make a tree of depth two; the order within a pair does not matter to a proof.
library Four {
    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function root(bytes32[4] memory leaves) internal pure returns (bytes32) {
        return pair(pair(leaves[0], leaves[1]), pair(leaves[2], leaves[3]));
    }

    function proof(bytes32[4] memory leaves, uint256 index)
        internal
        pure
        returns (bytes32[] memory siblings)
    {
        siblings = new bytes32[](2);
        siblings[0] = leaves[index ^ 1];
        siblings[1] = index < 2 ? pair(leaves[2], leaves[3]) : pair(leaves[0], leaves[1]);
    }
}

/// @dev A settled epoch with everything that a dispute about it needs: two payers, a payee, four claims.
struct Bundle {
    Epochs.Header header;
    bytes lines;
    Epochs.Claim[4] claims;
    bytes32[4] claimLeaves;
    bytes32[4] allocationLeaves;
}

/// @dev How epochs for disputes are made: line 0 is payer 0's and the sum of claims 0 and 1, line 1 payer 1's and
/// the sum of claims 2 and 3; both are the one payee's.
library Bundles {
    function make(
        Leaves leaves,
        address escrow,
        uint64 epoch,
        address[2] memory payers,
        address payee,
        uint96[4] memory amounts,
        bytes32[4] memory claimIds
    ) internal view returns (Bundle memory bundle) {
        for (uint32 i = 0; i < 4; i++) {
            Epochs.Claim memory claim;
            claim.salt = keccak256(abi.encode(epoch, i));
            claim.index = i;
            claim.claimId = claimIds[i];
            claim.payer = payers[i / 2];
            claim.payee = payee;
            claim.totalSeconds = 3600;
            claim.pricePerTaskHour = amounts[i];
            claim.amount = amounts[i];
            bundle.claims[i] = claim;
            bundle.claimLeaves[i] = leaves.claim(claim, escrow, epoch);
            bundle.allocationLeaves[i] = leaves.allocation(claim, escrow, epoch, i / 2);
        }
        Line[] memory lines = new Line[](2);
        lines[0] = Line(payers[0], payee, amounts[0] + amounts[1]);
        lines[1] = Line(payers[1], payee, amounts[2] + amounts[3]);
        bundle.lines = Packing.pack(lines);
        bundle.header.epoch = epoch;
        bundle.header.linesHash = keccak256(bundle.lines);
        bundle.header.claimsRoot = Four.root(bundle.claimLeaves);
        bundle.header.allocationsRoot = Four.root(bundle.allocationLeaves);
        bundle.header.bundleHash = "bundle";
    }

    function leaf(Bundle memory bundle, uint256 index) internal pure returns (FallowDisputes.Leaf memory) {
        return FallowDisputes.Leaf({
            claim: bundle.claims[index],
            claimProof: Four.proof(bundle.claimLeaves, index),
            allocationProof: Four.proof(bundle.allocationLeaves, index)
        });
    }

    /// @dev Claims `first` and, unless it is the same, `last`.
    function some(Bundle memory bundle, uint256 first, uint256 last)
        internal
        pure
        returns (FallowDisputes.Leaf[] memory found)
    {
        found = new FallowDisputes.Leaf[](last - first + 1);
        for (uint256 i = first; i <= last; i++) {
            found[i - first] = leaf(bundle, i);
        }
    }
}

/// @dev `Base` with disputes attached, money for bonds, and stakes of hub and payee.
abstract contract DisputesBase is Base {
    using Bundles for Bundle;

    uint32 internal constant REVEAL = 1 days;
    uint32 internal constant ARBITRATION = 3 days;
    uint32 internal constant UNBONDING = 2 * WINDOW + REVEAL + ARBITRATION + 1;
    uint96 internal constant BOND = 5e6;
    uint96 internal constant STAKE = 500e6;

    address internal arbiter = address(0xA4B);
    address internal beneficiary = address(0xBE);
    FallowDisputes internal disputes;
    Leaves internal leaves;
    bytes32 internal nextClaimId = bytes32(uint256(1));

    function setUp() public virtual override {
        super.setUp();
        leaves = new Leaves();
        disputes = new FallowDisputes(_terms());
        vm.prank(owner);
        escrow.attachDisputes(address(disputes));
        for (uint256 i = 0; i < 2; i++) {
            token.mint(payers[i], 1_000e6);
            vm.prank(payers[i]);
            token.approve(address(disputes), type(uint256).max);
        }
        token.mint(address(this), 10 * STAKE);
        token.approve(address(disputes), type(uint256).max);
        disputes.stake(address(escrow), STAKE);
        disputes.stake(payees[0], STAKE);
        vm.warp((block.timestamp / WINDOW + 1) * WINDOW); // a window's start
    }

    function _terms() internal view returns (FallowDisputes.Config memory) {
        return FallowDisputes.Config({
            escrow: escrow,
            arbiter: arbiter,
            beneficiary: beneficiary,
            minimumBond: BOND,
            bondBasisPoints: 500,
            revealPeriod: REVEAL,
            arbitrationPeriod: ARBITRATION,
            unbondingPeriod: UNBONDING
        });
    }

    function _newIds() internal returns (bytes32[4] memory ids) {
        for (uint256 i = 0; i < 4; i++) {
            ids[i] = nextClaimId;
            nextClaimId = bytes32(uint256(nextClaimId) + 1);
        }
    }

    /// @dev Settles 10 + 20 for payer 0, 30 + 40 for payer 1, all to payee 0.
    function _settleBundle() internal returns (Bundle memory) {
        return _settleBundle(_newIds());
    }

    function _settleBundle(bytes32[4] memory ids) internal returns (Bundle memory bundle) {
        return _settleBundle(ids, [uint96(10e6), 20e6, 30e6, 40e6]);
    }

    function _settleBundle(bytes32[4] memory ids, uint96[4] memory amounts)
        internal
        returns (Bundle memory bundle)
    {
        bundle = Bundles.make(
            leaves, address(escrow), epoch + 1, [payers[0], payers[1]], payees[0], amounts, ids
        );
        _settleAs(bundle);
    }

    function _settleAs(Bundle memory bundle) internal {
        bundle.header.previousCommitment = commitment;
        Epochs.Header memory header = bundle.header;
        vm.prank(operator);
        escrow.settle(
            header.epoch,
            header.previousCommitment,
            bundle.lines,
            header.claimsRoot,
            header.allocationsRoot,
            header.bundleHash
        );
        epoch = header.epoch;
        commitment = escrow.commitments(epoch);
    }

    function _freeze(Bundle memory bundle, uint32 lineIndex, uint96 amount) internal {
        vm.prank(payers[lineIndex]);
        disputes.freeze(bundle.header, bundle.lines, lineIndex, amount);
    }

    function _reveal(Bundle memory bundle, uint32 lineIndex) internal {
        disputes.reveal(bundle.header, lineIndex, bundle.some(2 * lineIndex, 2 * lineIndex + 1));
    }

    function _rule(uint64 number, uint32 lineIndex, bytes32[] memory rejected) internal {
        vm.prank(arbiter);
        disputes.rule(number, lineIndex, rejected);
    }

    function _ids(bytes32 one) internal pure returns (bytes32[] memory ids) {
        ids = new bytes32[](1);
        ids[0] = one;
    }
}
