// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Epochs} from "../src/Epochs.sol";
import {FallowDisputes} from "../src/FallowDisputes.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {Stakes} from "../src/disputes/Stakes.sol";
import {Faults} from "../src/escrow/Faults.sol";
import {Holdings} from "../src/escrow/Holdings.sol";
import {Payees} from "../src/escrow/Payees.sol";
import {Bundle, Bundles, DisputesBase} from "./DisputesBase.sol";

/// @dev A line frozen, revealed, ruled on, or not; claims paid twice; stakes.
contract DisputesTest is DisputesBase {
    using Bundles for Bundle;

    function _err(bytes4 selector) private pure returns (bytes memory) {
        return abi.encodeWithSelector(selector);
    }

    function _status(uint32 lineIndex) private view returns (uint256) {
        return uint256(disputes.disputeOf(epoch, lineIndex).status);
    }

    // ---------------------------------------------------------------- freezing

    function test_freeze__part_of_the_own_line__takes_it_out_of_what_rests() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 12e6);
        assertEq(_owed(payees[0]), 88e6, "what is left to the payee");
        assertEq(escrow.frozen(), 12e6, "frozen");
        assertEq(disputes.liabilities(), 2 * STAKE + BOND, "bond");
        assertEq(disputes.disputeOf(epoch, 0).deadline, block.timestamp + REVEAL, "deadline");
    }

    function test_freeze__again_and_above_the_line__is_bounded_by_the_line() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 12e6);
        _freeze(bundle, 0, 18e6);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.AboveLine.selector, 1, 0));
        disputes.freeze(bundle.header, bundle.lines, 0, 1);
        assertEq(disputes.disputeOf(epoch, 0).bond, 2 * BOND, "a bond each time");
    }

    function test_freeze__by_another__of_nothing__or_of_what_was_not_settled__is_refused() public {
        Bundle memory bundle = _settleBundle();
        vm.prank(payers[1]);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.NotThePayer.selector, payers[1], payers[0]));
        disputes.freeze(bundle.header, bundle.lines, 0, 1);
        vm.prank(payers[0]);
        vm.expectRevert(_err(Faults.ZeroAmount.selector));
        disputes.freeze(bundle.header, bundle.lines, 0, 0);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Epochs.NoSuchLine.selector, 2));
        disputes.freeze(bundle.header, bundle.lines, 2, 1);
        vm.prank(payers[0]);
        vm.expectRevert(_err(FallowDisputes.LinesMismatch.selector));
        disputes.freeze(bundle.header, bytes.concat(bundle.lines, hex"00"), 0, 1);
        bundle.header.bundleHash = "other";
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.UnknownEpoch.selector, 1));
        disputes.freeze(bundle.header, bundle.lines, 0, 1);
        bundle.header.epoch = 0;
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.UnknownEpoch.selector, 0));
        disputes.freeze(bundle.header, bundle.lines, 0, 1);
    }

    function test_freeze__in_the_next_window__still_and_later_no_more() public {
        Bundle memory bundle = _settleBundle();
        vm.warp(block.timestamp + 2 * WINDOW - 1);
        assertTrue(escrow.restsStill(epoch, payees[0]), "rests");
        _freeze(bundle, 0, 12e6);
        vm.warp(block.timestamp + 1);
        assertTrue(!escrow.restsStill(epoch, payees[0]), "rests no more");
        vm.prank(payers[1]);
        vm.expectRevert(abi.encodeWithSelector(Payees.DisputeWindowOver.selector, epoch));
        disputes.freeze(bundle.header, bundle.lines, 1, 1);
        assertEq(_withdrawable(payees[0]), 88e6, "the rest has matured");
    }

    function test_freeze__after_the_reveal_or_its_deadline__is_refused() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 12e6);
        uint256 deadline = block.timestamp + REVEAL;
        vm.warp(deadline + 1);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.DeadlinePassed.selector, deadline));
        disputes.freeze(bundle.header, bundle.lines, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.DeadlinePassed.selector, deadline));
        _reveal(bundle, 0);
        vm.warp(deadline);
        _reveal(bundle, 0);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.WrongStatus.selector, 2));
        disputes.freeze(bundle.header, bundle.lines, 0, 1);
    }

    function test_bond__is_the_larger_of_minimum_and_part() public view {
        assertEq(disputes.bondFor(10e6), BOND, "minimum");
        assertEq(disputes.bondFor(1_000e6), 50e6, "5 %");
    }

    // ---------------------------------------------------------------- revealing

    function test_reveal__in_parts__is_complete_when_it_sums_to_the_line() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 12e6);
        disputes.reveal(bundle.header, 0, bundle.some(0, 0));
        assertEq(_status(0), 1, "frozen");
        disputes.reveal(bundle.header, 0, bundle.some(1, 1));
        assertEq(_status(0), 2, "revealed");
        assertEq(disputes.revelationOf(bundle.claims[1].claimId).amount, 20e6, "amount");
    }

    function test_reveal__out_of_order__of_another_line__or_not_in_the_epoch__is_refused() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 12e6);
        FallowDisputes.Leaf[] memory two = bundle.some(0, 1);
        (two[0], two[1]) = (two[1], two[0]);
        vm.expectRevert(
            abi.encodeWithSelector(FallowDisputes.ClaimsNotAscending.selector, bundle.claims[0].claimId)
        );
        disputes.reveal(bundle.header, 0, two);
        two = bundle.some(2, 2);
        vm.expectRevert(
            abi.encodeWithSelector(FallowDisputes.NotOfThisLine.selector, bundle.claims[2].claimId)
        );
        disputes.reveal(bundle.header, 0, two);
        two = bundle.some(0, 0);
        two[0].claim.amount += 1;
        bytes memory reason =
            abi.encodeWithSelector(FallowDisputes.NotInEpoch.selector, bundle.claims[0].claimId);
        vm.expectRevert(reason);
        disputes.reveal(bundle.header, 0, two);
        two[0].claim.amount -= 1; // memory is shared with the bundle
        two[0].allocationProof[0] = 0;
        vm.expectRevert(reason);
        disputes.reveal(bundle.header, 0, two);
    }

    function test_reveal__line_never_frozen_or_other_roots__is_refused() public {
        Bundle memory bundle = _settleBundle();
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.WrongStatus.selector, 0));
        _reveal(bundle, 0);
        bundle.header.claimsRoot = 0;
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.UnknownEpoch.selector, 1));
        _reveal(bundle, 0);
    }

    function test_reveal__leaves_above_the_line__are_refused() public {
        Bundle memory bundle = Bundles.make(
            leaves,
            address(escrow),
            epoch + 1,
            [payers[0], payers[1]],
            payees[0],
            [uint96(10e6), 20e6, 30e6, 40e6],
            _newIds()
        );
        bundle.lines = _line(payers[0], payees[0], 25e6); // claims say 30
        bundle.header.linesHash = keccak256(bundle.lines);
        _settleAs(bundle);
        _freeze(bundle, 0, 1e6);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.AboveLine.selector, 20e6, 15e6));
        _reveal(bundle, 0);
    }

    function test_reveal__claim_id_that_another_line_has_shown__is_refused() public {
        bytes32[4] memory ids = _newIds();
        Bundle memory first = _settleBundle(ids);
        _freeze(first, 0, 1e6);
        _reveal(first, 0);
        vm.warp(block.timestamp + INTERVAL);
        Bundle memory second = _settleBundle(ids);
        _freeze(second, 0, 1e6);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.AlreadyRevealed.selector, ids[0]));
        _reveal(second, 0);
    }

    // ---------------------------------------------------------------- ruling

    function test_rule__claim_rejected__refunds_what_is_frozen_and_slashes_the_payee_by_the_claim() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 25e6);
        _reveal(bundle, 0);
        uint256 before = _balance(payers[0]);
        _rule(epoch, 0, _ids(bundle.claims[1].claimId));
        assertEq(_balance(payers[0]), before + 20e6, "refund");
        assertEq(escrow.frozen(), 0, "nothing stays frozen");
        assertEq(_owed(payees[0]), 80e6, "released and the other line");
        assertEq(disputes.stakeOf(payees[0]).amount, STAKE - 20e6, "slashed by the claim");
        assertEq(disputes.collectable(beneficiary), 20e6, "to the beneficiary");
        assertEq(disputes.collectable(payers[0]), disputes.bondFor(25e6), "bond is back");
        uint256 tokens = token.balanceOf(payers[0]);
        vm.prank(payers[0]);
        disputes.collect();
        assertEq(token.balanceOf(payers[0]), tokens + disputes.bondFor(25e6), "collected");
    }

    function test_rule__rejected_more_than_frozen__refunds_what_was_frozen() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 15e6);
        _reveal(bundle, 0);
        uint256 before = _balance(payers[0]);
        _rule(epoch, 0, _ids(bundle.claims[1].claimId));
        assertEq(_balance(payers[0]), before + 15e6, "refund");
    }

    function test_rule__nothing_rejected__releases_and_the_bond_is_lost() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 15e6);
        _reveal(bundle, 0);
        _rule(epoch, 0, new bytes32[](0));
        assertEq(_owed(payees[0]), 100e6, "released");
        assertEq(_withdrawable(payees[0]), 15e6, "as matured");
        assertEq(disputes.collectable(beneficiary), BOND, "bond");
        assertEq(disputes.collectable(payers[0]), 0, "lost");
        vm.prank(payees[0]);
        escrow.withdrawCredits();
        assertEq(token.balanceOf(payees[0]), 15e6, "tokens");
    }

    function test_rule__by_another_too_late_or_about_other_claims__is_refused() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 15e6);
        vm.prank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.WrongStatus.selector, 1));
        disputes.rule(1, 0, new bytes32[](0));
        _reveal(bundle, 0);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.NotTheArbiter.selector, address(this)));
        disputes.rule(1, 0, new bytes32[](0));
        vm.prank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.NotOfThisLine.selector, bytes32("x")));
        disputes.rule(1, 0, _ids("x"));
        _freeze(bundle, 1, 15e6);
        _reveal(bundle, 1);
        bytes32 other = bundle.claims[2].claimId;
        vm.prank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.NotOfThisLine.selector, other));
        disputes.rule(1, 0, _ids(other));
        bytes32[] memory twice = new bytes32[](2);
        (twice[0], twice[1]) = (bundle.claims[0].claimId, bundle.claims[0].claimId);
        vm.prank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.AlreadyRefunded.selector, twice[0]));
        disputes.rule(1, 0, twice);
        uint256 deadline = block.timestamp + ARBITRATION;
        vm.warp(deadline + 1);
        vm.prank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.DeadlinePassed.selector, deadline));
        disputes.rule(1, 0, new bytes32[](0));
    }

    // ---------------------------------------------------------------- silence

    function test_conclude__not_revealed_in_time__refunds_and_slashes_the_hub() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 15e6);
        uint256 before = _balance(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Faults.TooEarly.selector, block.timestamp + REVEAL + 1));
        disputes.conclude(1, 0);
        vm.warp(block.timestamp + REVEAL + 1);
        disputes.conclude(1, 0);
        assertEq(_balance(payers[0]), before + 15e6, "refund");
        assertEq(disputes.stakeOf(address(escrow)).amount, STAKE - 15e6, "slashed");
        assertEq(disputes.collectable(payers[0]), BOND, "bond is back");
        assertEq(_status(0), 3, "not revealed");
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.WrongStatus.selector, 3));
        disputes.conclude(1, 0);
    }

    function test_conclude__hub_has_no_stake_left__refunds_all_the_same() public {
        vm.prank(owner);
        disputes.startUnbonding(address(escrow), STAKE);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(owner);
        disputes.withdrawStake(address(escrow));
        assertEq(token.balanceOf(owner), STAKE, "the owner has it");
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 15e6);
        vm.warp(block.timestamp + REVEAL + 1);
        uint256 before = _balance(payers[0]);
        disputes.conclude(1, 0);
        assertEq(_balance(payers[0]), before + 15e6, "refund");
        assertEq(disputes.collectable(beneficiary), 0, "nothing to slash");
    }

    function test_conclude__arbiter_is_silent__releases_everything() public {
        Bundle memory bundle = _settleBundle();
        _freeze(bundle, 0, 15e6);
        _reveal(bundle, 0);
        vm.warp(block.timestamp + ARBITRATION);
        vm.expectRevert(abi.encodeWithSelector(Faults.TooEarly.selector, block.timestamp + 1));
        disputes.conclude(1, 0);
        vm.warp(block.timestamp + 1);
        disputes.conclude(1, 0);
        assertEq(_owed(payees[0]), 100e6, "released");
        assertEq(disputes.stakeOf(address(escrow)).amount, STAKE, "nobody is slashed");
        assertEq(disputes.collectable(payers[0]), BOND, "bond is back");
    }

    function test_conclude__no_dispute__is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.WrongStatus.selector, 0));
        disputes.conclude(1, 0);
    }

    // ---------------------------------------------------------------- paid twice

    function _twice() private returns (Bundle memory first, Bundle memory second) {
        bytes32[4] memory ids = _newIds();
        first = _settleBundle(ids);
        vm.warp(block.timestamp + INTERVAL);
        second = _settleBundle(ids);
    }

    function _show(Bundle memory first, Bundle memory second, uint256 claim) private {
        disputes.showTwice(
            second.header,
            second.leaf(claim),
            second.lines,
            uint32(claim / 2),
            first.header,
            first.leaf(claim)
        );
    }

    function test_showTwice__by_anyone__takes_the_second_payment_back_and_slashes_the_hub() public {
        (Bundle memory first, Bundle memory second) = _twice();
        uint256 before = _balance(payers[0]);
        vm.prank(address(0x5));
        _show(first, second, 1);
        assertEq(_balance(payers[0]), before + 20e6, "refund");
        assertEq(_owed(payees[0]), 180e6, "taken back");
        assertEq(disputes.stakeOf(address(escrow)).amount, STAKE - 20e6, "slashed");
        _show(first, second, 1);
        assertEq(_balance(payers[0]), before + 20e6, "once");
        assertEq(disputes.stakeOf(address(escrow)).amount, STAKE - 20e6, "once");
    }

    function test_showTwice__credits_no_longer_rest__slashes_only() public {
        (Bundle memory first, Bundle memory second) = _twice();
        uint256 before = _balance(payers[0]);
        vm.warp(block.timestamp + 2 * WINDOW);
        _show(first, second, 1);
        assertEq(_balance(payers[0]), before, "no refund");
        assertEq(disputes.slashedFor(second.claims[1].claimId), 20e6, "slashed");
    }

    function test_showTwice__a_third_time_for_more__slashes_the_difference() public {
        bytes32[4] memory ids = _newIds();
        Bundle memory first = _settleBundle(ids, [uint96(1e6), 1e6, 1e6, 1e6]);
        vm.warp(block.timestamp + INTERVAL);
        Bundle memory second = _settleBundle(ids, [uint96(1e6), 1e6, 1e6, 1e6]);
        vm.warp(block.timestamp + INTERVAL);
        Bundle memory third = _settleBundle(ids, [uint96(1e6), 90e6, 1e6, 1e6]);
        _show(first, second, 1);
        _show(first, third, 1);
        assertEq(disputes.stakeOf(address(escrow)).amount, STAKE - 90e6, "the largest payment, once");
    }

    function test_showTwice__frozen_already__is_not_given_back_twice() public {
        (Bundle memory first, Bundle memory second) = _twice();
        _freeze(second, 0, 25e6);
        uint256 before = _balance(payers[0]);
        _show(first, second, 1);
        assertEq(_balance(payers[0]), before + 5e6, "only what is not frozen");
        _reveal(second, 0);
        _rule(2, 0, _ids(second.claims[1].claimId));
        assertEq(_balance(payers[0]), before + 20e6, "the rest of it by the ruling");
    }

    function test_showTwice__given_back_in_full__cannot_be_rejected_again() public {
        (Bundle memory first, Bundle memory second) = _twice();
        _show(first, second, 1);
        _freeze(second, 0, 10e6);
        _reveal(second, 0);
        bytes32 claimId = second.claims[1].claimId;
        vm.prank(arbiter);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.AlreadyRefunded.selector, claimId));
        disputes.rule(2, 0, _ids(claimId));
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.WrongStatus.selector, 2));
        disputes.freeze(second.header, second.lines, 0, 1);
    }

    function test_showTwice__whole_line_is_frozen__gives_nothing_back() public {
        (Bundle memory first, Bundle memory second) = _twice();
        _freeze(second, 0, 30e6);
        uint256 before = _balance(payers[0]);
        _show(first, second, 1);
        assertEq(_balance(payers[0]), before, "nothing");
    }

    function test_showTwice__no_two_payments__is_refused() public {
        (Bundle memory first, Bundle memory second) = _twice();
        vm.expectRevert(_err(FallowDisputes.NotTwice.selector));
        _show(second, second, 1);
        vm.expectRevert(_err(FallowDisputes.NotTwice.selector));
        _show(second, first, 1);
        vm.expectRevert(_err(FallowDisputes.NotTwice.selector));
        disputes.showTwice(second.header, second.leaf(0), second.lines, 0, first.header, first.leaf(1));
        vm.expectRevert(
            abi.encodeWithSelector(FallowDisputes.NotOfThisLine.selector, second.claims[1].claimId)
        );
        disputes.showTwice(second.header, second.leaf(1), second.lines, 1, first.header, first.leaf(1));
        FallowDisputes.Leaf memory forged = first.leaf(1);
        forged.claim.salt = "";
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.NotInEpoch.selector, second.claims[1].claimId));
        disputes.showTwice(second.header, second.leaf(1), second.lines, 0, first.header, forged);
    }

    function test_showTwice__two_leaves_of_one_epoch__count_as_well() public {
        bytes32[4] memory ids = _newIds();
        ids[1] = ids[0];
        Bundle memory bundle = _settleBundle(ids);
        uint256 before = _balance(payers[0]);
        disputes.showTwice(bundle.header, bundle.leaf(1), bundle.lines, 0, bundle.header, bundle.leaf(0));
        assertEq(_balance(payers[0]), before + 20e6, "refund");
    }

    // ---------------------------------------------------------------- stakes

    function test_stake__asked_back__is_paid_after_the_unbonding_and_within_a_day() public {
        vm.prank(payees[0]);
        disputes.startUnbonding(payees[0], 100e6);
        uint256 due = block.timestamp + UNBONDING;
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Faults.TooEarly.selector, due));
        disputes.withdrawStake(payees[0]);
        vm.warp(due + 24 hours + 1);
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Stakes.UnbondingExpired.selector, due + 24 hours));
        disputes.withdrawStake(payees[0]);
        vm.warp(due);
        vm.prank(payees[0]);
        disputes.withdrawStake(payees[0]);
        assertEq(token.balanceOf(payees[0]), 100e6, "tokens");
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Stakes.NothingUnbonding.selector, payees[0]));
        disputes.withdrawStake(payees[0]);
    }

    function test_stake__slashed_while_unbonding__pays_what_is_left() public {
        Bundle memory bundle = _settleBundle();
        vm.prank(payees[0]);
        disputes.startUnbonding(payees[0], STAKE);
        _freeze(bundle, 0, 25e6);
        _reveal(bundle, 0);
        _rule(epoch, 0, _ids(bundle.claims[1].claimId));
        assertEq(disputes.stakeOf(payees[0]).unbonding, STAKE - 20e6, "unbonding shrinks with the stake");
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(payees[0]);
        disputes.withdrawStake(payees[0]);
        assertEq(token.balanceOf(payees[0]), STAKE - 20e6, "tokens");
    }

    function test_stake__slashed_to_nothing__has_nothing_to_pay() public {
        Bundle memory bundle = _settleBundle(_newIds(), [uint96(600e6), 1e6, 1e6, 1e6]);
        vm.prank(payees[0]);
        disputes.startUnbonding(payees[0], 1e6);
        _freeze(bundle, 0, 600e6);
        _reveal(bundle, 0);
        _rule(epoch, 0, _ids(bundle.claims[0].claimId));
        assertEq(disputes.stakeOf(payees[0]).amount, 0, "no more than there is");
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Holdings.NothingToWithdraw.selector, payees[0]));
        disputes.withdrawStake(payees[0]);
    }

    function test_stake__more_than_there_is_by_others_or_cancelled__is_refused() public {
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Stakes.StakeTooSmall.selector, payees[0], STAKE + 1, STAKE));
        disputes.startUnbonding(payees[0], STAKE + 1);
        vm.expectRevert(abi.encodeWithSelector(Stakes.NotController.selector, address(this), payees[0]));
        disputes.startUnbonding(payees[0], 1);
        vm.prank(payees[0]);
        disputes.startUnbonding(payees[0], 5);
        vm.prank(payees[0]);
        disputes.startUnbonding(payees[0], 0);
        assertEq(disputes.stakeOf(payees[0]).unbondsAt, 0, "cancelled");
        vm.expectRevert(_err(Faults.ZeroAddress.selector));
        disputes.stake(address(0), 1);
        vm.expectRevert(abi.encodeWithSelector(Holdings.NothingToWithdraw.selector, address(this)));
        disputes.collect();
    }

    function test_stake__of_the_hub__is_its_owners_to_ask_back() public {
        vm.prank(operator);
        vm.expectRevert(abi.encodeWithSelector(Stakes.NotController.selector, operator, address(escrow)));
        disputes.startUnbonding(address(escrow), 1);
        vm.prank(owner);
        disputes.startUnbonding(address(escrow), 1);
    }

    function test_forfeits__beneficiary_is_a_party_or_the_hub__nobody_gets_them() public {
        address[3] memory parties = [payers[0], payees[0], operator];
        for (uint256 i = 0; i < 3; i++) {
            escrow = new FallowEscrow(_config());
            (epoch, commitment) = (0, escrow.commitments(0));
            beneficiary = parties[i];
            disputes = new FallowDisputes(_terms());
            vm.prank(owner);
            escrow.attachDisputes(address(disputes));
            _fund(payers[0], 100e6);
            _fund(payers[1], 100e6);
            _register(payeeKeys[0]);
            vm.warp(block.timestamp + DELAY);
            vm.prank(payers[0]);
            token.approve(address(disputes), type(uint256).max);
            Bundle memory bundle = _settleBundle();
            _freeze(bundle, 0, 1e6);
            _reveal(bundle, 0);
            _rule(epoch, 0, new bytes32[](0));
            assertEq(disputes.collectable(parties[i]), 0, "not to a party");
            assertEq(disputes.liabilities(), 0, "nobody's");
        }
    }

    // ---------------------------------------------------------------- roles and terms

    function test_arbiter__proposed_by_the_owner__accepts_after_a_day() public {
        vm.expectRevert(abi.encodeWithSelector(FallowDisputes.NotTheOwner.selector, address(this)));
        disputes.proposeArbiter(address(7));
        vm.prank(owner);
        vm.expectRevert(_err(Faults.InvalidConfig.selector));
        disputes.proposeArbiter(beneficiary);
        vm.prank(owner);
        disputes.proposeArbiter(address(7));
        vm.expectRevert(abi.encodeWithSelector(Faults.NotProposed.selector, address(this)));
        disputes.acceptArbiter();
        vm.prank(address(7));
        vm.expectRevert(abi.encodeWithSelector(Faults.TooEarly.selector, block.timestamp + 24 hours));
        disputes.acceptArbiter();
        vm.warp(block.timestamp + 24 hours);
        vm.prank(address(7));
        disputes.acceptArbiter();
        assertTrue(disputes.arbiter() == address(7), "arbiter");
        vm.prank(owner);
        disputes.proposeArbiter(address(0));
        assertEq(disputes.arbiterAcceptableFrom(), 0, "withdrawn");
    }

    function test_constructor__terms_that_cannot_work__are_refused() public {
        for (uint256 i = 0; i < 6; i++) {
            FallowDisputes.Config memory terms = _terms();
            if (i == 0) terms.minimumBond = 0;
            if (i == 1) terms.bondBasisPoints = 10_001;
            if (i == 2) terms.revealPeriod = 0;
            if (i == 3) terms.arbitrationPeriod = 0;
            if (i == 4) terms.unbondingPeriod -= 1;
            if (i == 5) terms.beneficiary = arbiter;
            vm.expectRevert(_err(Faults.InvalidConfig.selector));
            new FallowDisputes(terms);
        }
        FallowDisputes.Config memory none = _terms();
        none.arbiter = address(0);
        vm.expectRevert(_err(Faults.ZeroAddress.selector));
        new FallowDisputes(none);
    }

    function testFuzz_dispute__any_amounts__conserve_money(
        uint96[4] memory amounts,
        uint96 part,
        uint8 rejected,
        bool revealed
    ) public {
        uint256 sum;
        for (uint256 i = 0; i < 4; i++) {
            amounts[i] = 1 + amounts[i] % (CAP / 2);
            sum += amounts[i];
        }
        uint256 balances = _balance(payers[0]) + _balance(payers[1]);
        Bundle memory bundle = _settleBundle(_newIds(), amounts);
        part = 1 + part % (amounts[0] + amounts[1]);
        _freeze(bundle, 0, part);
        uint256 wrong = rejected % 2 == 0 ? 0 : amounts[0];
        if (revealed) {
            _reveal(bundle, 0);
            _rule(epoch, 0, wrong == 0 ? new bytes32[](0) : _ids(bundle.claims[0].claimId));
        } else {
            vm.warp(block.timestamp + REVEAL + 1);
            disputes.conclude(epoch, 0);
        }
        uint256 back = revealed ? (wrong < part ? wrong : part) : part;
        assertEq(_balance(payers[0]) + _balance(payers[1]), balances - sum + back, "payers");
        assertEq(_owed(payees[0]), sum - back, "payee");
        assertEq(escrow.frozen(), 0, "frozen");
        disputes.checkSolvency();
        escrow.checkSolvency();
    }
}
