// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Epochs} from "../src/Epochs.sol";
import {Faults} from "../src/escrow/Faults.sol";
import {Holdings} from "../src/escrow/Holdings.sol";
import {Payees} from "../src/escrow/Payees.sol";
import {Payers} from "../src/escrow/Payers.sol";
import {Gate} from "../src/escrow/Gate.sol";
import {Roles} from "../src/escrow/Roles.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {Base} from "./Base.t.sol";
import {Line, Packing} from "./Packing.sol";

/// @dev settle: what it does to balances, and each reason for which it refuses.
contract SettleTest is Base {
    function test_settle__one_line__moves_it_from_payer_to_payee() public {
        bytes32 expected = _commitment(1, commitment, _line(payers[0], payees[0], 7e6));
        _settle(_line(payers[0], payees[0], 7e6));
        assertEq(_balance(payers[0]), 9_993e6, "payer");
        assertEq(_owed(payees[0]), 7e6, "payee");
        assertEq(escrow.lastEpoch(), 1, "epoch");
        assertEq(escrow.commitments(1), expected, "commitment");
    }

    function test_settle__several_lines__debits_each_payer_their_sum() public {
        bytes memory lines = Packing.pack(Packing.join(_two(payers[0], 1e6, 2e6), _two(payers[1], 3e6, 4e6)));
        _settle(lines);
        assertEq(_balance(payers[0]), 10_000e6 - 3e6, "payer 0");
        assertEq(_balance(payers[1]), 10_000e6 - 7e6, "payer 1");
        assertEq(_owed(payees[0]), 4e6, "payee 0");
        assertEq(_owed(payees[1]), 6e6, "payee 1");
    }

    function test_settle__genesis__is_the_domain_separator() public view {
        assertEq(escrow.commitments(0), escrow.domainSeparator(), "genesis");
    }

    function test_settle__by_anyone_else__is_refused() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(Gate.NotOperator.selector, owner));
        escrow.settle(1, commitment, _line(payers[0], payees[0], 1), "", "", "");
    }

    function test_settle__same_epoch_again__is_refused() public {
        bytes memory lines = _line(payers[0], payees[0], 1e6);
        bytes32 previous = commitment;
        _settle(lines);
        vm.warp(block.timestamp + INTERVAL);
        vm.prank(operator);
        vm.expectRevert(abi.encodeWithSelector(FallowEscrow.EpochOutOfOrder.selector, 1, 2));
        escrow.settle(1, previous, lines, "claims", "allocations", "bundle");
    }

    function test_settle__other_previous_commitment__is_refused() public {
        vm.prank(operator);
        vm.expectRevert(
            abi.encodeWithSelector(FallowEscrow.PreviousCommitmentMismatch.selector, bytes32("x"), commitment)
        );
        escrow.settle(1, "x", _line(payers[0], payees[0], 1), "", "", "");
    }

    function test_settle__malformed_lines__is_refused() public {
        bytes memory line = _line(payers[0], payees[0], 1);
        _expectMalformed("");
        _expectMalformed(bytes.concat(line, hex"00"));
        _expectMalformed(abi.encodePacked(uint16(0), payers[0], uint16(1), uint16(0), uint96(1)));
        bytes memory table = abi.encodePacked(uint16(1), payees[0]);
        _expectMalformed(table);
        _expectMalformed(bytes.concat(table, abi.encodePacked(payers[0], uint16(0))));
        _expectMalformed(bytes.concat(table, abi.encodePacked(payers[0], uint16(2), uint16(0), uint96(1))));
        _expectMalformed(bytes.concat(table, abi.encodePacked(payers[0], uint16(1), uint16(0))));
        _expectMalformed(bytes.concat(table, abi.encodePacked(payers[0], uint16(1), uint16(1), uint96(1))));
        _expectSettleRevert(
            _line(payers[0], payees[0], 0), abi.encodeWithSelector(Faults.ZeroAmount.selector)
        );
    }

    function _expectMalformed(bytes memory lines) private {
        _expectSettleRevert(lines, abi.encodeWithSelector(Epochs.MalformedLines.selector, lines.length));
    }

    function test_settle__line_twice_or_out_of_order__is_refused() public {
        Line[] memory line = _one(payers[0], payees[0], 1);
        _expectSettleRevert(
            Packing.pack(Packing.join(_one(payers[1], payees[0], 1), line)),
            abi.encodeWithSelector(FallowEscrow.LinesNotAscending.selector, 58)
        );
        _expectSettleRevert(
            Packing.pack(Packing.join(line, line)),
            abi.encodeWithSelector(FallowEscrow.LinesNotAscending.selector, 58)
        );
        _expectSettleRevert(
            _line(address(0), payees[0], 1),
            abi.encodeWithSelector(FallowEscrow.LinesNotAscending.selector, 22)
        );
    }

    function test_settle__payees_twice_or_out_of_order_or_unpaid__is_refused() public {
        (address low, address high) = payees[0] < payees[1] ? (payees[0], payees[1]) : (payees[1], payees[0]);
        bytes memory both = abi.encodePacked(payers[0], uint16(2), uint16(0), uint96(1), uint16(1), uint96(1));
        bytes memory reason = abi.encodeWithSelector(FallowEscrow.PayeesNotAscending.selector, 1);
        _expectSettleRevert(bytes.concat(abi.encodePacked(uint16(2), high, low), both), reason);
        _expectSettleRevert(bytes.concat(abi.encodePacked(uint16(2), low, low), both), reason);
        _expectSettleRevert(
            bytes.concat(
                abi.encodePacked(uint16(1), address(0)),
                abi.encodePacked(payers[0], uint16(1), uint16(0), uint96(1))
            ),
            abi.encodeWithSelector(FallowEscrow.PayeesNotAscending.selector, 0)
        );
        _expectSettleRevert(
            abi.encodePacked(uint16(2), low, high, payers[0], uint16(1), uint16(0), uint96(1)),
            abi.encodeWithSelector(Faults.ZeroAmount.selector)
        );
    }

    function test_settle__an_epoch_that_is_not_the_next__is_refused() public {
        bytes memory line = _line(payers[0], payees[0], 1);
        for (uint64 n = 0; n < 5; n++) {
            assertEq(escrow.lastEpoch(), n, "last epoch");
            _expectOutOfOrder(n, n + 1);
            _expectOutOfOrder(n + 2, n + 1);
            _expectOutOfOrder(type(uint64).max, n + 1);
            _settle(line);
            vm.warp(block.timestamp + INTERVAL);
        }
    }

    function _expectOutOfOrder(uint64 given, uint64 expected) private {
        vm.prank(operator);
        vm.expectRevert(abi.encodeWithSelector(FallowEscrow.EpochOutOfOrder.selector, given, expected));
        escrow.settle(given, commitment, _line(payers[0], payees[0], 1), "", "", "");
    }

    function test_settle__payer_never_bound__is_refused() public {
        address stranger = address(0x5);
        _deposit(stranger, 5e6);
        _expectSettleRevert(
            _line(stranger, payees[0], 1), abi.encodeWithSelector(Payers.PayerNotBound.selector, stranger)
        );
    }

    function test_settle__above_the_cap__is_refused_also_over_two_lines() public {
        _expectSettleRevert(
            _twoLines(payers[0], CAP, 1),
            abi.encodeWithSelector(Payers.CapExceeded.selector, payers[0], CAP + 1, CAP)
        );
    }

    function test_settle__twice_within_the_interval__is_refused_for_that_payer() public {
        _settle(_line(payers[0], payees[0], 1));
        _expectSettleRevert(
            _line(payers[0], payees[0], 1),
            abi.encodeWithSelector(Payers.DebitTooSoon.selector, payers[0], block.timestamp + INTERVAL)
        );
        _settle(_line(payers[1], payees[0], 1));
        vm.warp(block.timestamp + INTERVAL);
        _settle(_line(payers[0], payees[0], 1));
    }

    function test_settle__more_than_the_balance__is_refused() public {
        address poor = address(0x2001);
        _fund(poor, 5);
        _expectSettleRevert(
            _line(poor, payees[0], 6), abi.encodeWithSelector(Payers.InsufficientBalance.selector, poor, 6, 5)
        );
    }

    function test_settle__payee_unregistered_or_not_yet_active__is_refused() public {
        address stranger = vm.addr(999);
        bytes memory reason = abi.encodeWithSelector(Payees.PayeeNotActive.selector, stranger);
        _expectSettleRevert(_line(payers[0], stranger, 1), reason);
        _register(999);
        _expectSettleRevert(_line(payers[0], stranger, 1), reason);
        vm.warp(block.timestamp + DELAY);
        _settle(_line(payers[0], stranger, 1));
    }

    function test_settle__fee_above_the_maximum__is_refused() public {
        (address low, address high) = collector < payees[0] ? (collector, payees[0]) : (payees[0], collector);
        bytes memory fair = Packing.pack(
            Packing.join(
                _one(payers[0], low, low == collector ? 5 : 95),
                _one(payers[0], high, high == collector ? 5 : 95)
            )
        );
        _expectSettleRevert(
            _line(payers[0], collector, 5),
            abi.encodeWithSelector(Payers.FeeTooHigh.selector, payers[0], 5, 5)
        );
        _settle(fair);
        assertEq(_owed(collector), 5, "fee");
    }

    function test_settle__no_fee_collector__takes_no_line_for_a_fee() public {
        FallowEscrow.Config memory config = _config();
        config.feeCollector = address(0);
        escrow = new FallowEscrow(config);
        commitment = escrow.commitments(0);
        _fund(payers[0], 10e6);
        _register(payeeKeys[0]);
        vm.warp(block.timestamp + DELAY);
        _settle(_line(payers[0], payees[0], 7e6));
        assertEq(_owed(payees[0]), 7e6, "payee");
    }

    function test_settle__paused__is_refused_while_deposits_and_withdrawals_go_on() public {
        _settle(_line(payers[0], payees[0], 7e6));
        vm.prank(payers[0]);
        escrow.giveWithdrawalNotice(1e6);
        vm.prank(guardian);
        escrow.pause();
        vm.warp(block.timestamp + NOTICE + 1 days); // two windows, and the notice still valid
        _expectSettleRevert(
            _line(payers[0], payees[0], 1), abi.encodeWithSelector(Gate.SettlingPaused.selector)
        );
        vm.prank(payees[0]);
        escrow.withdrawCredits();
        assertEq(token.balanceOf(payees[0]), 7e6, "payee's tokens");
        vm.prank(payers[0]);
        escrow.withdraw();
        _deposit(payers[0], 1e6);
        vm.prank(guardian);
        vm.expectRevert();
        escrow.unpause();
        vm.prank(owner);
        escrow.unpause();
        _settle(_line(payers[0], payees[0], 1));
    }

    function test_pause__by_a_stranger__is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(Roles.NotGuardian.selector, address(this)));
        escrow.pause();
    }

    function test_settle__insolvent__is_refused_and_so_are_deposits() public {
        bytes memory reason = abi.encodeWithSelector(Holdings.Insolvent.selector, 20_000e6 - 1, 20_000e6);
        vm.prank(address(escrow));
        assertTrue(token.transfer(address(1), 1), "a token that takes balances away");
        _expectSettleRevert(_line(payers[0], payees[0], 1), reason);
        token.mint(address(this), 5);
        token.approve(address(escrow), 5);
        vm.expectRevert(reason);
        escrow.deposit(payers[0], 5);
    }

    function testFuzz_settle__any_amounts__conserve_money(uint96 a, uint96 b, uint96 c) public {
        a = uint96(1 + uint256(a) % (CAP / 2));
        b = uint96(1 + uint256(b) % (CAP / 2));
        c = uint96(1 + uint256(c) % CAP);
        uint256 before = escrow.liabilities();
        _settle(Packing.pack(Packing.join(_two(payers[0], a, b), _one(payers[1], payees[1], c))));
        assertEq(_balance(payers[0]), 10_000e6 - a - b, "payer 0");
        assertEq(_balance(payers[1]), 10_000e6 - c, "payer 1");
        assertEq(_owed(payees[0]) + _owed(payees[1]), uint256(a) + b + c, "debits = credits");
        assertEq(escrow.liabilities(), before, "settling changes no sum");
    }

    function testFuzz_settle__any_bytes__never_pay_an_unregistered_payee(bytes calldata lines) public {
        vm.prank(operator);
        (bool done,) = address(escrow).call(abi.encodeCall(escrow.settle, (1, commitment, lines, "", "", "")));
        assertTrue(!done, "random bytes name no bound payer");
    }
}
