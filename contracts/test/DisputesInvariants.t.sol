// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FallowDisputes} from "../src/FallowDisputes.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {TestToken} from "../src/TestToken.sol";
import {Vm} from "./Base.t.sol";
import {Bundle, Bundles, DisputesBase, Leaves} from "./DisputesBase.sol";

/// @dev Payers, a payee, an operator honest or malicious, an arbiter silent, right or wrong, strangers; all doing
/// whatever the fuzzer says, with books of their own.
contract Parties {
    using Bundles for Bundle;

    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    FallowEscrow private immutable escrow;
    FallowDisputes private immutable disputes;
    TestToken private immutable token;
    Leaves private immutable leaves;
    address private immutable operator;
    address private immutable arbiter;
    address private immutable payee;
    uint96 private immutable cap;
    uint24 private immutable interval;
    address[2] private payers;

    struct Key {
        uint64 epoch;
        uint32 lineIndex;
    }

    uint64 public epochs;
    bytes32 private nextClaimId = bytes32(uint256(1));
    mapping(uint64 epoch => Bundle) private bundles;

    uint256 public credited;
    uint256 public paidOut;
    uint256[2] public debited;

    uint256 public settlements;
    Key[] private opened;
    uint256 public rulings;
    uint256 public conclusions;
    uint256 public shownTwice;
    string public broken;

    constructor(
        FallowEscrow escrow_,
        FallowDisputes disputes_,
        TestToken token_,
        Leaves leaves_,
        address[3] memory roles,
        address[2] memory payers_,
        uint96 cap_,
        uint24 interval_
    ) {
        (escrow, disputes, token, leaves) = (escrow_, disputes_, token_, leaves_);
        (operator, arbiter, payee) = (roles[0], roles[1], roles[2]);
        (payers, cap, interval) = (payers_, cap_, interval_);
    }

    /// @dev Mostly minutes, so that disputes meet each other; now and then most of a window.
    function wait(uint32 pause) external {
        vm.warp(block.timestamp + (pause % 4 == 0 ? pause % 40 hours : pause % (2 * interval)));
    }

    /// @dev The operator; a malicious one pays old claims again, or exceeds the cap.
    function settle(uint96[4] calldata wanted, uint256 seed) external {
        uint96[4] memory amounts;
        bytes32[4] memory ids;
        bool again = seed % 5 == 0 && epochs != 0;
        for (uint256 i = 0; i < 4; i++) {
            amounts[i] = 1 + wanted[i] % (seed % 7 == 0 ? cap : cap / 2);
            ids[i] = again ? bundles[epochs].claims[i].claimId : nextClaimId;
            if (!again) nextClaimId = bytes32(uint256(nextClaimId) + 1);
        }
        uint64 epoch = escrow.lastEpoch() + 1;
        Bundle memory bundle = Bundles.make(leaves, address(escrow), epoch, payers, payee, amounts, ids);
        bundle.header.previousCommitment = escrow.commitments(epoch - 1);
        vm.prank(operator);
        try escrow.settle(
            epoch,
            bundle.header.previousCommitment,
            bundle.lines,
            bundle.header.claimsRoot,
            bundle.header.allocationsRoot,
            bundle.header.bundleHash
        ) {
            _keep(bundle);
            epochs = epoch;
            settlements++;
            debited[0] += uint256(amounts[0]) + amounts[1];
            debited[1] += uint256(amounts[2]) + amounts[3];
            credited += uint256(amounts[0]) + amounts[1] + amounts[2] + amounts[3];
        } catch {}
    }

    function _keep(Bundle memory bundle) private {
        Bundle storage kept = bundles[bundle.header.epoch];
        kept.header = bundle.header;
        kept.lines = bundle.lines;
        kept.claimLeaves = bundle.claimLeaves;
        kept.allocationLeaves = bundle.allocationLeaves;
        for (uint256 i = 0; i < 4; i++) {
            kept.claims[i] = bundle.claims[i];
        }
    }

    /// @dev One of the last four epochs.
    function _some(uint256 seed) private view returns (Bundle memory) {
        uint64 last = epochs;
        uint64 back = uint64(seed % 4);
        return bundles[back < last ? last - back : last];
    }

    /// @dev The fuzzer likes small numbers; here every bit decides something.
    function _mixed(uint256 seed) private view returns (uint256) {
        return uint256(keccak256(abi.encode(seed, block.timestamp)));
    }

    /// @dev Mostly a line that was frozen lately, so that disputes get to their end.
    function _disputed(uint256 seed) private view returns (Bundle memory bundle, uint32 lineIndex) {
        if (opened.length == 0 || seed % 8 == 0) return (_some(seed), uint32((seed >> 8) % 2));
        uint256 back = (seed >> 8) % (opened.length < 3 ? opened.length : 3);
        Key memory key = opened[opened.length - 1 - back];
        return (bundles[key.epoch], key.lineIndex);
    }

    function freeze(uint256 seed, uint96 amount) external {
        if (epochs == 0) return;
        seed = _mixed(seed);
        bool stranger = (seed >> 16) % 8 == 0;
        Bundle memory bundle = _some(seed);
        uint32 lineIndex = uint32((seed >> 8) % 2);
        vm.prank(stranger ? address(0x5) : payers[lineIndex]);
        try disputes.freeze(bundle.header, bundle.lines, lineIndex, 1 + amount % (cap / 4)) {
            if (stranger) broken = "a stranger froze a line";
            opened.push(Key({epoch: bundle.header.epoch, lineIndex: lineIndex}));
        } catch {}
    }

    function reveal(uint256 seed) external {
        if (epochs == 0) return;
        seed = _mixed(seed);
        (Bundle memory bundle, uint32 lineIndex) = _disputed(seed);
        uint256 first = 2 * lineIndex;
        // All at once, or in two halves of which the second may come late or never.
        bool half = (seed >> 16) % 4 == 0;
        uint256 from = half && (seed >> 24) % 2 == 0 ? first + 1 : first;
        uint256 to = half && from == first ? first : first + 1;
        try disputes.reveal(bundle.header, lineIndex, bundle.some(from, to)) {} catch {}
    }

    /// @dev Right, wrong, or now and then about claims of another line.
    function rule(uint256 seed) external {
        if (epochs == 0) return;
        seed = _mixed(seed);
        bool impostor = (seed >> 32) % 8 == 0;
        (Bundle memory bundle, uint32 lineIndex) = _disputed(seed);
        if ((seed >> 40) % 2 == 0) {
            // The rest of a half-revealed line, or all of it: else few lines would ever come this far.
            uint256 from =
                2 * lineIndex + (disputes.disputeOf(bundle.header.epoch, lineIndex).revealed == 0 ? 0 : 1);
            try disputes.reveal(bundle.header, lineIndex, bundle.some(from, 2 * lineIndex + 1)) {} catch {}
        }
        bytes32[] memory rejected = new bytes32[]((seed >> 16) % 3);
        uint256 first = (seed >> 24) % 8 == 0 ? 1 : 2 * lineIndex;
        for (uint256 i = 0; i < rejected.length; i++) {
            rejected[i] = bundle.claims[first + i].claimId;
        }
        vm.prank(impostor ? operator : arbiter);
        try disputes.rule(bundle.header.epoch, lineIndex, rejected) {
            if (impostor) broken = "somebody else ruled";
            rulings++;
        } catch {}
    }

    function conclude(uint256 seed) external {
        if (epochs == 0) return;
        seed = _mixed(seed);
        (Bundle memory bundle, uint32 lineIndex) = _disputed(seed);
        try disputes.conclude(bundle.header.epoch, lineIndex) {
            conclusions++;
        } catch {}
    }

    function showTwice(uint256 seed, uint256 other) external {
        if (epochs == 0) return;
        Bundle memory second = _some(seed);
        Bundle memory first = _some(other);
        uint256 i = (seed >> 8) % 4;
        bool twice =
            first.claims[i].claimId == second.claims[i].claimId && first.header.epoch < second.header.epoch;
        try disputes.showTwice(
            second.header, second.leaf(i), second.lines, uint32(i / 2), first.header, first.leaf(i)
        ) {
            if (!twice) broken = "one payment was shown as two";
            shownTwice++;
        } catch {
            if (twice) broken = "two payments could not be shown";
        }
    }

    function unbond(uint256 seed, uint96 amount) external {
        vm.prank(payee);
        try disputes.startUnbonding(payee, amount % 500e6) {} catch {}
        if (seed % 2 == 0) vm.warp(block.timestamp + seed % 3 days);
        vm.prank(payee);
        try disputes.withdrawStake(payee) {} catch {}
    }

    function collect(uint256 who) external {
        vm.prank(payers[who % 2]);
        try disputes.collect() {} catch {}
    }

    function withdrawCredits() external {
        uint256 before = token.balanceOf(payee);
        vm.prank(payee);
        try escrow.withdrawCredits() {
            paidOut += token.balanceOf(payee) - before;
        } catch {}
    }

    /// @dev The largest sum of frozen and given back over the amount of a line, over all lines: 0 or less is right.
    function worstLine() external view returns (bool above, uint256 openBonds) {
        for (uint64 epoch = 1; epoch <= epochs; epoch++) {
            for (uint32 i = 0; i < 2; i++) {
                FallowDisputes.Dispute memory one = disputes.disputeOf(epoch, i);
                uint256 line = bundles[epoch].claims[2 * i].amount + bundles[epoch].claims[2 * i + 1].amount;
                if (uint256(one.frozen) + one.refundedTwice > line) above = true;
                openBonds += one.bond;
            }
        }
    }
}

/// @dev What holds whatever the parties of disputes do.
contract DisputesInvariantsTest is DisputesBase {
    Parties private parties;
    uint256[2] private balances;
    uint256 private started;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 2; i++) {
            _deposit(payers[i], 1_000_000e6);
            token.mint(payers[i], 1_000_000e6);
            balances[i] = _balance(payers[i]);
        }
        started = block.timestamp;
        parties = new Parties(
            escrow,
            disputes,
            token,
            leaves,
            [operator, arbiter, payees[0]],
            [payers[0], payers[1]],
            CAP,
            INTERVAL
        );
    }

    /// @dev Read by forge: only the parties are called.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(parties);
    }

    function invariant_solvency__both_contracts_hold_what_they_owe() public view {
        escrow.checkSolvency();
        disputes.checkSolvency();
        uint256 owed = _balance(payers[0]) + _balance(payers[1]) + _owed(payees[0]) + escrow.frozen();
        assertEq(
            escrow.liabilities(), owed, "the escrow's liabilities are balances, credits and what is frozen"
        );
        (, uint256 openBonds) = parties.worstLine();
        uint256 held = uint256(disputes.stakeOf(payees[0]).amount) + disputes.stakeOf(address(escrow)).amount
            + disputes.collectable(payers[0]) + disputes.collectable(payers[1])
            + disputes.collectable(beneficiary) + openBonds;
        assertEq(disputes.liabilities(), held, "the disputes' are stakes, bonds and what can be collected");
    }

    function invariant_lines__frozen_and_refunded_are_at_most_the_line() public view {
        (bool above,) = parties.worstLine();
        assertTrue(!above, "more frozen and refunded than the line");
    }

    function invariant_payees__never_more_than_credited_and_payers_never_more_than_debited() public view {
        uint256 back;
        for (uint256 i = 0; i < 2; i++) {
            uint256 returned = _balance(payers[i]) + parties.debited(i) - balances[i];
            assertTrue(returned <= parties.debited(i), "no payer gets back more than it paid");
            back += returned;
        }
        uint256 payees_ = parties.paidOut() + _owed(payees[0]) + escrow.frozen();
        assertEq(payees_ + back, parties.credited(), "paid + owed + frozen + refunded = credited");
    }

    function invariant_operator__takes_at_most_cap_per_interval() public view {
        uint256 times = (block.timestamp - started) / INTERVAL + 1;
        for (uint256 i = 0; i < 2; i++) {
            assertTrue(parties.debited(i) <= times * CAP, "above cap x elapsed / interval");
        }
    }

    function invariant_nobody__does_what_is_not_its_own() public view {
        assertEq(keccak256(bytes(parties.broken())), keccak256(""), parties.broken());
        assertEq(escrow.lastEpoch(), parties.settlements(), "every epoch once");
    }
}
