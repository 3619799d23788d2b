// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {Faults} from "../src/escrow/Faults.sol";
import {Holdings} from "../src/escrow/Holdings.sol";
import {Payees} from "../src/escrow/Payees.sol";
import {Payers} from "../src/escrow/Payers.sol";
import {Gate} from "../src/escrow/Gate.sol";
import {TestToken} from "../src/TestToken.sol";
import {Base} from "./Base.t.sol";
import {BlockingToken, CoarseToken, SilentToken} from "./tokens/OddTokens.sol";

/// @dev What happens over an escrow's life: payouts and signers change, operators go, tokens are odd, it closes.
contract LifeTest is Base {
    function _mature(uint96 amount) private {
        _settle(_line(payers[0], payees[0], amount));
        vm.warp(block.timestamp + 2 * WINDOW);
    }

    // ---------------------------------------------------------------- payouts

    function test_payout__changed__is_effective_after_a_day() public {
        address to = address(0xCAFE);
        vm.prank(payees[0]);
        escrow.setPayout(to);
        (address next, uint40 at_) = escrow.payoutChangeOf(payees[0]);
        assertTrue(next == to && at_ == block.timestamp + 24 hours, "visible");
        assertTrue(escrow.payoutOf(payees[0]) == payees[0], "not yet");
        _settle(_line(payers[0], payees[0], 5e6));
        vm.warp(at_ - 1);
        assertTrue(escrow.payoutOf(payees[0]) == payees[0], "a second before");
        vm.warp(block.timestamp + 2 * WINDOW);
        (next, at_) = escrow.payoutChangeOf(payees[0]);
        assertTrue(next == address(0) && at_ == 0, "no change is under way");
        vm.prank(payees[0]);
        escrow.withdrawCredits();
        assertEq(token.balanceOf(to), 5e6, "tokens");
    }

    function test_payout__changed_again__keeps_the_effective_one_meanwhile() public {
        vm.prank(payees[0]);
        escrow.setPayout(address(1));
        vm.warp(block.timestamp + 24 hours);
        vm.prank(payees[0]);
        escrow.setPayout(address(2));
        assertTrue(escrow.payoutOf(payees[0]) == address(1), "still the first");
        vm.prank(payees[0]);
        escrow.setPayout(address(3));
        vm.warp(block.timestamp + 24 hours);
        assertTrue(escrow.payoutOf(payees[0]) == address(3), "the second was replaced");
    }

    function test_payout__under_way_when_credits_mature__pays_the_payee() public {
        _mature(5e6);
        vm.prank(payees[0]);
        escrow.setPayout(address(1));
        vm.prank(payees[0]);
        escrow.withdrawCredits();
        assertEq(token.balanceOf(payees[0]), 5e6, "tokens");
    }

    function test_payout__zero_or_by_nobody_registered__is_refused() public {
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAddress.selector));
        escrow.setPayout(address(0));
        vm.expectRevert(abi.encodeWithSelector(Payees.PayeeNotRegistered.selector, address(this)));
        escrow.setPayout(address(1));
    }

    // ---------------------------------------------------------------- signers

    function test_signer__added__is_valid_from_the_next_epoch_and_once() public {
        _settle(_line(payers[0], payees[0], 1));
        vm.prank(payees[0]);
        escrow.addSigner(address(7), 10);
        Payees.Signer memory given = escrow.signerOf(payees[0], address(7));
        assertTrue(given.from == 2 && given.until == 10, "epochs");
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Payees.SignerAlreadyRegistered.selector, address(7)));
        escrow.addSigner(address(7), 11);
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Payees.EpochsNotAhead.selector, 1));
        escrow.addSigner(address(8), 1);
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAddress.selector));
        escrow.addSigner(address(0), 10);
        vm.expectRevert(abi.encodeWithSelector(Payees.PayeeNotRegistered.selector, address(this)));
        escrow.addSigner(address(8), 10);
    }

    function test_signer__ended__earlier_only_and_never_in_the_past() public {
        vm.prank(payees[0]);
        escrow.addSigner(address(7), 10);
        _settle(_line(payers[0], payees[0], 1));
        vm.warp(block.timestamp + INTERVAL);
        _settle(_line(payers[0], payees[0], 1));
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Payees.SignerNotValid.selector, address(7)));
        escrow.endSigner(address(7), 10);
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Payees.EpochsNotAhead.selector, 1));
        escrow.endSigner(address(7), 1);
        vm.prank(payees[0]);
        escrow.endSigner(address(7), 2);
        assertEq(escrow.signerOf(payees[0], address(7)).until, 2, "until");
    }

    // ---------------------------------------------------------------- operator

    function test_operator__proposed__accepts_after_a_day_and_payers_need_do_nothing() public {
        address next = address(0x0C);
        vm.prank(owner);
        escrow.proposeOperator(next);
        (address proposed, uint40 from) = escrow.proposedOperator();
        assertTrue(proposed == next && from == block.timestamp + 24 hours, "visible");
        vm.prank(next);
        vm.expectRevert(abi.encodeWithSelector(Faults.TooEarly.selector, from));
        escrow.acceptOperator();
        _settle(_line(payers[0], payees[0], 1));
        vm.warp(from);
        vm.expectRevert(abi.encodeWithSelector(Faults.NotProposed.selector, address(this)));
        escrow.acceptOperator();
        vm.prank(next);
        escrow.acceptOperator();
        _expectSettleRevert(
            _line(payers[0], payees[0], 1), abi.encodeWithSelector(Gate.NotOperator.selector, operator)
        );
        operator = next;
        _settle(_line(payers[0], payees[0], 1));
    }

    function test_operator__proposal_withdrawn_or_by_a_stranger__changes_nothing() public {
        vm.expectRevert();
        escrow.proposeOperator(address(1));
        vm.prank(owner);
        escrow.proposeOperator(address(1));
        vm.prank(owner);
        escrow.proposeOperator(address(0));
        vm.warp(block.timestamp + 24 hours);
        vm.prank(address(1));
        vm.expectRevert(abi.encodeWithSelector(Faults.NotProposed.selector, address(1)));
        escrow.acceptOperator();
        assertTrue(escrow.operator() == operator, "operator");
    }

    function test_owner__pauses_and_cannot_leave_the_escrow_alone() public {
        vm.prank(owner);
        escrow.pause();
        assertTrue(escrow.paused(), "paused");
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAddress.selector));
        escrow.renounceOwnership();
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAddress.selector));
        escrow.setGuardian(address(0));
    }

    // ---------------------------------------------------------------- closing

    function test_close__ends_deposits_now_and_settling_after_the_notice() public {
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Gate.NotClosed.selector, 0));
        escrow.withdrawAll();
        vm.prank(owner);
        escrow.close(address(0x5CC));
        uint256 closes = block.timestamp + NOTICE;
        assertEq(escrow.closesAt(), closes, "closes at");
        assertTrue(escrow.successor() == address(0x5CC), "successor");
        token.mint(address(this), 5);
        token.approve(address(escrow), 5);
        vm.expectRevert(abi.encodeWithSelector(Gate.Closed.selector, closes));
        escrow.deposit(payers[0], 5);
        _settle(_line(payers[0], payees[0], 7e6)); // what runs is settled
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Gate.NotClosed.selector, closes));
        escrow.withdrawAll();
        vm.warp(closes);
        _expectSettleRevert(
            _line(payers[0], payees[0], 1), abi.encodeWithSelector(Gate.Closed.selector, closes)
        );
        vm.prank(payers[0]);
        escrow.withdrawAll();
        assertEq(token.balanceOf(payers[0]), 9_993e6, "all of it, without notice");
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Holdings.NothingToWithdraw.selector, payers[0]));
        escrow.withdrawAll();
        vm.warp(block.timestamp + 2 * WINDOW);
        vm.prank(payees[0]);
        escrow.withdrawCredits();
        assertEq(token.balanceOf(payees[0]), 7e6, "payees as ever");
    }

    function test_close__twice_or_by_a_stranger__is_refused() public {
        vm.expectRevert();
        escrow.close(address(0));
        vm.prank(owner);
        escrow.close(address(0));
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(Gate.Closed.selector, block.timestamp + NOTICE));
        escrow.close(address(1));
    }

    // ---------------------------------------------------------------- disputes module

    function test_attachDisputes__another_escrows_a_second_or_after_an_epoch__is_refused() public {
        bytes memory reason = abi.encodeWithSelector(FallowEscrow.CannotAttach.selector);
        Module module = new Module(address(1));
        vm.prank(owner);
        vm.expectRevert(reason);
        escrow.attachDisputes(address(module));
        vm.prank(owner);
        vm.expectRevert(reason);
        escrow.attachDisputes(address(0x77));
        vm.expectRevert();
        escrow.attachDisputes(address(module));
        Module own = new Module(address(escrow));
        _settle(_line(payers[0], payees[0], 1));
        vm.prank(owner);
        vm.expectRevert(reason);
        escrow.attachDisputes(address(own));

        FallowEscrow other = new FallowEscrow(_config());
        own = new Module(address(other));
        vm.prank(owner);
        other.attachDisputes(address(own));
        assertTrue(other.disputes() == address(own), "attached");
        vm.prank(owner);
        vm.expectRevert(reason);
        other.attachDisputes(address(own));
    }

    function test_disputes_functions__by_anyone_else__are_refused() public {
        bytes memory reason = abi.encodeWithSelector(FallowEscrow.NotDisputes.selector, owner);
        vm.prank(owner);
        vm.expectRevert(reason);
        escrow.freezeCredit(1, payees[0], 1);
        vm.prank(owner);
        vm.expectRevert(reason);
        escrow.refundCredit(payers[0], 1);
        vm.prank(owner);
        vm.expectRevert(reason);
        escrow.releaseCredit(payees[0], 1);
    }

    function test_disputes_functions__a_wrong_module__cannot_move_more_than_rests_or_is_frozen() public {
        FallowEscrow.Config memory config = _config();
        FallowEscrow other = new FallowEscrow(config);
        Module own = new Module(address(other));
        vm.prank(owner);
        other.attachDisputes(address(own));
        vm.prank(address(own));
        vm.expectRevert();
        other.refundCredit(payers[0], 1);
        vm.prank(address(own));
        vm.expectRevert();
        other.releaseCredit(payees[0], 1);
        vm.prank(address(own));
        vm.expectRevert(abi.encodeWithSelector(Payees.PayeeNotActive.selector, payees[0]));
        other.freezeCredit(1, payees[0], 1);
    }

    // ---------------------------------------------------------------- odd tokens

    function test_token__that_returns_nothing__works() public {
        SilentToken silent = new SilentToken();
        FallowEscrow.Config memory config = _config();
        config.token = IERC20(address(silent));
        FallowEscrow other = new FallowEscrow(config);
        silent.mint(address(this), 10);
        silent.approve(address(other), 10);
        other.deposit(address(this), 10);
        other.giveWithdrawalNotice(4);
        vm.warp(block.timestamp + NOTICE);
        other.withdraw();
        assertEq(silent.balanceOf(address(this)), 4, "tokens");
    }

    function test_token__without_permit__still_deposits_by_allowance() public {
        SilentToken silent = new SilentToken();
        FallowEscrow.Config memory config = _config();
        config.token = IERC20(address(silent));
        FallowEscrow other = new FallowEscrow(config);
        silent.mint(address(this), 10);
        silent.approve(address(other), 10);
        other.depositWithPermit(address(this), 10, block.timestamp, 27, "r", "s");
        assertEq(other.payerOf(address(this)).balance, 10, "balance");
    }

    function test_token__that_refuses_one_payee__affects_that_payee_only() public {
        BlockingToken blocking = new BlockingToken();
        token = TestToken(address(blocking));
        escrow = new FallowEscrow(_config());
        commitment = escrow.commitments(0);
        for (uint256 i = 0; i < 2; i++) {
            _fund(payers[i], 10_000e6);
            _register(payeeKeys[i]);
        }
        vm.warp(block.timestamp + DELAY);
        _settle(_twoLines(payers[0], 3e6, 4e6));
        vm.warp(block.timestamp + 2 * WINDOW);
        blocking.setBlocked(payees[0], true);
        vm.prank(payees[0]);
        vm.expectRevert();
        escrow.withdrawCredits();
        assertEq(_withdrawable(payees[0]), 3e6, "keeps what it is owed");
        vm.prank(payees[1]);
        escrow.withdrawCredits();
        assertEq(token.balanceOf(payees[1]), 4e6, "the other is paid");
        _settle(_twoLines(payers[0], 3e6, 4e6));
    }

    function test_token__with_too_few_decimals__is_refused() public {
        FallowEscrow.Config memory config = _config();
        config.token = IERC20(address(new CoarseToken()));
        vm.expectRevert(abi.encodeWithSelector(Faults.InvalidConfig.selector));
        new FallowEscrow(config);
    }

    function test_deposit__beyond_96_bits_in_all__is_refused() public {
        uint256 most = type(uint96).max;
        uint96 rest = uint96(most - escrow.liabilities());
        _deposit(payers[0], rest);
        token.mint(address(this), 1);
        token.approve(address(escrow), 1);
        vm.expectRevert(abi.encodeWithSelector(Holdings.TooMuchHeld.selector, most + 1));
        escrow.deposit(payers[1], 1);
    }

    function test_constructor__no_hub_or_too_high_a_fee__is_refused() public {
        FallowEscrow.Config memory config = _config();
        config.hubId = 0;
        vm.expectRevert(abi.encodeWithSelector(Faults.InvalidConfig.selector));
        new FallowEscrow(config);
        config = _config();
        config.maxFeeBasisPoints = 10_001;
        vm.expectRevert(abi.encodeWithSelector(Faults.InvalidConfig.selector));
        new FallowEscrow(config);
        config = _config();
        config.guardian = address(0);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAddress.selector));
        new FallowEscrow(config);
    }

    function test_withdrawCredits__by_a_stranger__is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(Payees.PayeeNotActive.selector, address(this)));
        escrow.withdrawCredits();
    }

    function test_notices__none_given__are_zeros() public view {
        assertEq(escrow.noticeOf(payees[0]).maturesAt, 0, "withdrawal");
        assertEq(escrow.bindingNoticeOf(payees[0]).maturesAt, 0, "binding");
    }
}

/// @dev Says whose module it is.
contract Module {
    address public immutable escrow;

    constructor(address escrow_) {
        escrow = escrow_;
    }
}
