// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {TestToken} from "../src/TestToken.sol";
import {Line, Packing} from "./Packing.sol";

/// @dev The cheat codes that these tests use.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function assume(bool condition) external pure;
    function expectRevert(bytes calldata data) external;
    function expectRevert() external;
    function parseJsonAddress(string calldata json, string calldata path) external pure returns (address);
    function parseJsonBytes(string calldata json, string calldata path) external pure returns (bytes memory);
    function parseJsonBytes32(string calldata json, string calldata path) external pure returns (bytes32);
    function parseJsonBytes32Array(string calldata json, string calldata path)
        external
        pure
        returns (bytes32[] memory);
    function parseJsonString(string calldata json, string calldata path) external pure returns (string memory);
    function parseJsonUint(string calldata json, string calldata path) external pure returns (uint256);
    function prank(address sender) external;
    function readFile(string calldata path) external view returns (string memory);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function toString(uint256 value) external pure returns (string memory);
    function warp(uint256 timestamp) external;
    function chainId(uint256 id) external;
    function etch(address target, bytes calldata code) external;
}

/// @dev An escrow with two bound payers and two active payees, and the words to speak about it.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    bytes32 internal constant HUB_ID = keccak256("hub");
    uint32 internal constant NOTICE = 3 days;
    uint32 internal constant DELAY = 1 days;
    uint32 internal constant WINDOW = 2 days;
    uint96 internal constant CAP = 1_000e6;
    uint24 internal constant INTERVAL = 300;

    address internal owner = address(0xA11CE);
    address internal operator = address(0x0B);
    address internal guardian = address(0x6A);
    address internal collector;
    address[] internal payers;
    address[] internal payees;
    uint256[] internal payeeKeys;

    TestToken internal token;
    FallowEscrow internal escrow;

    bytes32 internal commitment;
    uint64 internal epoch;

    error Failed(string what);

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        token = new TestToken();
        collector = vm.addr(100);
        escrow = new FallowEscrow(_config());
        commitment = escrow.commitments(0);
        for (uint256 i = 0; i < 2; i++) {
            payers.push(address(uint160(0x1000 + i)));
            payeeKeys.push(101 + i);
            payees.push(vm.addr(101 + i));
            _fund(payers[i], 10_000e6);
            _register(payeeKeys[i]);
        }
        _register(100);
        vm.warp(block.timestamp + DELAY);
    }

    function _config() internal view returns (FallowEscrow.Config memory) {
        return FallowEscrow.Config({
            token: IERC20(address(token)),
            hubId: HUB_ID,
            owner: owner,
            operator: operator,
            guardian: guardian,
            feeCollector: collector,
            maxFeeBasisPoints: 500,
            noticePeriod: NOTICE,
            payeeDelay: DELAY,
            disputeWindow: WINDOW
        });
    }

    function _fund(address payer, uint96 amount) internal {
        _deposit(payer, amount);
        vm.prank(payer);
        escrow.bind(CAP, INTERVAL);
    }

    function _deposit(address payer, uint96 amount) internal {
        token.mint(payer, amount);
        vm.prank(payer);
        token.approve(address(escrow), amount);
        vm.prank(payer);
        escrow.deposit(payer, amount);
    }

    function _register(uint256 key) internal {
        uint64 deadline = uint64(block.timestamp + 1);
        bytes memory signature = _registration(key, vm.addr(key), deadline);
        escrow.registerPayee(vm.addr(key), deadline, signature);
    }

    function _registration(uint256 key, address payee, uint64 deadline) internal view returns (bytes memory) {
        bytes32 structHash = keccak256(
            abi.encode(keccak256("PayeeRegistration(address payee,uint64 deadline)"), payee, deadline)
        );
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", escrow.domainSeparator(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev Settles the next epoch; keeps `epoch` and `commitment` as an honest operator would.
    function _settle(bytes memory lines) internal {
        bytes32 next = _commitment(epoch + 1, commitment, lines);
        vm.prank(operator);
        escrow.settle(epoch + 1, commitment, lines, "claims", "allocations", "bundle");
        epoch += 1;
        commitment = next;
    }

    function _expectSettleRevert(bytes memory lines, bytes memory reason) internal {
        vm.prank(operator);
        vm.expectRevert(reason);
        escrow.settle(epoch + 1, commitment, lines, "claims", "allocations", "bundle");
    }

    function _commitment(uint64 number, bytes32 previous, bytes memory lines)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256(
                    "Settlement(uint64 epoch,bytes32 previousCommitment,bytes32 linesHash,bytes32 claimsRoot,bytes32 allocationsRoot,bytes32 bundleHash)"
                ),
                number,
                previous,
                keccak256(lines),
                bytes32("claims"),
                bytes32("allocations"),
                bytes32("bundle")
            )
        );
    }

    function _line(address payer, address payee, uint96 amount) internal pure returns (bytes memory) {
        return Packing.pack(_one(payer, payee, amount));
    }

    function _one(address payer, address payee, uint96 amount) internal pure returns (Line[] memory lines) {
        lines = new Line[](1);
        lines[0] = Line(payer, payee, amount);
    }

    /// @dev Two lines of a payer, to payees 0 and 1 (in ascending order of payees).
    function _two(address payer, uint96 first, uint96 second) internal view returns (Line[] memory) {
        Line[] memory one = _one(payer, payees[0], first);
        Line[] memory other = _one(payer, payees[1], second);
        return payees[0] < payees[1] ? Packing.join(one, other) : Packing.join(other, one);
    }

    function _twoLines(address payer, uint96 first, uint96 second) internal view returns (bytes memory) {
        return Packing.pack(_two(payer, first, second));
    }

    function _balance(address payer) internal view returns (uint256) {
        return escrow.payerOf(payer).balance;
    }

    function _owed(address payee) internal view returns (uint256 owed) {
        (owed,) = escrow.creditsOf(payee);
    }

    function _withdrawable(address payee) internal view returns (uint256 withdrawable) {
        (, withdrawable) = escrow.creditsOf(payee);
    }

    function assertEq(uint256 got, uint256 want, string memory what) internal pure {
        if (got != want) {
            revert Failed(string.concat(what, ": ", vm.toString(got), " is not ", vm.toString(want)));
        }
    }

    function assertEq(bytes32 got, bytes32 want, string memory what) internal pure {
        if (got != want) revert Failed(what);
    }

    function assertTrue(bool fact, string memory what) internal pure {
        if (!fact) revert Failed(what);
    }
}
