// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Faults} from "../src/escrow/Faults.sol";
import {Holdings} from "../src/escrow/Holdings.sol";
import {Payees} from "../src/escrow/Payees.sol";
import {Payers} from "../src/escrow/Payers.sol";
import {Roles} from "../src/escrow/Roles.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {TestToken} from "../src/TestToken.sol";
import {Base} from "./Base.t.sol";

/// @dev Takes one unit of every transfer for itself.
contract GreedyToken is TestToken {
    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0) && to != address(1)) super._update(to, address(1), 1);
    }
}

/// @dev Accepts one digest, as a contract wallet would (EIP-1271).
contract Wallet {
    bytes32 private immutable accepted;

    constructor(bytes32 digest) {
        accepted = digest;
    }

    function isValidSignature(bytes32 digest, bytes calldata) external view returns (bytes4) {
        return digest == accepted ? bytes4(0x1626ba7e) : bytes4(0);
    }
}

/// @dev Deposits, bindings, notices, registrations and credits.
contract AccountsTest is Base {
    function test_deposit__for_another_payer__is_its_balance() public {
        token.mint(address(this), 5);
        token.approve(address(escrow), 5);
        escrow.deposit(payers[0], 5);
        assertEq(_balance(payers[0]), 10_000e6 + 5, "balance");
    }

    function test_deposit__token_that_takes_a_fee__is_refused() public {
        FallowEscrow.Config memory config = _config();
        GreedyToken greedy = new GreedyToken();
        config.token = IERC20(address(greedy));
        FallowEscrow other = new FallowEscrow(config);
        greedy.mint(address(this), 100);
        greedy.approve(address(other), 100);
        vm.expectRevert(abi.encodeWithSelector(Holdings.DepositNotExact.selector, 99, 100));
        other.deposit(payers[0], 100);
    }

    function test_deposit__of_nothing__is_refused() public {
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAmount.selector));
        escrow.deposit(payers[0], 0);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAddress.selector));
        escrow.deposit(address(0), 1);
    }

    function test_depositWithPermit__permit_used_by_someone_else_first__still_deposits() public {
        uint256 key = 0xC0FFEE;
        address from = vm.addr(key);
        token.mint(from, 9);
        uint256 deadline = block.timestamp;
        bytes32 structHash = keccak256(
            abi.encode(
                keccak256(
                    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
                ),
                from,
                address(escrow),
                9,
                0,
                deadline
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(key, keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), structHash)));
        token.permit(from, address(escrow), 9, deadline, v, r, s);
        vm.prank(from);
        escrow.depositWithPermit(payers[1], 9, deadline, v, r, s);
        assertEq(_balance(payers[1]), 10_000e6 + 9, "balance");
    }

    function test_bind__looser__is_at_once_and_stricter_needs_notice() public {
        vm.prank(payers[0]);
        escrow.bind(CAP + 1, INTERVAL - 1);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.StricterBindingNeedsNotice.selector));
        escrow.bind(CAP, INTERVAL - 1);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.StricterBindingNeedsNotice.selector));
        escrow.bind(CAP + 1, INTERVAL);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAmount.selector));
        escrow.bind(0, 0);
    }

    function test_bindingNotice__revoking__holds_after_the_notice_only() public {
        vm.prank(payers[0]);
        escrow.giveBindingNotice(0, 0);
        uint256 maturesAt = block.timestamp + NOTICE;
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.NoticeNotMature.selector, maturesAt));
        escrow.applyBindingNotice();
        _settle(_line(payers[0], payees[0], 1));
        vm.warp(maturesAt);
        assertEq(escrow.bindingNoticeOf(payers[0]).maturesAt, maturesAt, "notice is visible");
        vm.prank(payers[0]);
        escrow.applyBindingNotice();
        _expectSettleRevert(
            _line(payers[0], payees[0], 1), abi.encodeWithSelector(Payers.PayerNotBound.selector, payers[0])
        );
    }

    function test_withdraw__before_maturity_after_expiry_or_without_notice__is_refused() public {
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.NoNotice.selector, payers[0]));
        escrow.withdraw();
        vm.prank(payers[0]);
        escrow.giveWithdrawalNotice(10e6);
        uint256 maturesAt = block.timestamp + NOTICE;
        vm.warp(maturesAt - 1);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.NoticeNotMature.selector, maturesAt));
        escrow.withdraw();
        vm.warp(maturesAt + 24 hours + 1);
        assertEq(escrow.noticeOf(payers[0]).amount, 0, "expired notices count as none");
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.NoticeExpired.selector, maturesAt + 24 hours));
        escrow.withdraw();
    }

    function test_withdraw__matured__pays_and_forgets_the_notice() public {
        vm.prank(payers[0]);
        escrow.giveWithdrawalNotice(10e6);
        vm.warp(block.timestamp + NOTICE);
        vm.prank(payers[0]);
        escrow.withdraw();
        assertEq(token.balanceOf(payers[0]), 10e6, "tokens");
        assertEq(_balance(payers[0]), 9_990e6, "balance");
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.NoNotice.selector, payers[0]));
        escrow.withdraw();
    }

    function test_withdraw__debited_meanwhile__pays_what_is_left() public {
        address poor = address(0x2002);
        _fund(poor, 10);
        vm.prank(poor);
        escrow.giveWithdrawalNotice(10);
        _settle(_line(poor, payees[0], 4)); // under notice funds stay debitable
        vm.warp(block.timestamp + NOTICE);
        vm.prank(poor);
        escrow.withdraw();
        assertEq(token.balanceOf(poor), 6, "tokens");
    }

    function test_notice__of_zero__cancels() public {
        vm.prank(payers[0]);
        escrow.giveWithdrawalNotice(10);
        vm.prank(payers[0]);
        escrow.giveWithdrawalNotice(0);
        vm.warp(block.timestamp + NOTICE);
        vm.prank(payers[0]);
        vm.expectRevert(abi.encodeWithSelector(Payers.NoNotice.selector, payers[0]));
        escrow.withdraw();
    }

    function test_registerPayee__by_another_key_or_for_another_escrow__is_refused() public {
        uint64 deadline = uint64(block.timestamp);
        bytes memory wrong = _registration(998, vm.addr(999), deadline);
        vm.expectRevert(abi.encodeWithSelector(Payees.InvalidSignature.selector, vm.addr(999)));
        escrow.registerPayee(vm.addr(999), deadline, wrong);

        bytes memory right = _registration(999, vm.addr(999), deadline);
        FallowEscrow other = new FallowEscrow(_config());
        vm.expectRevert(abi.encodeWithSelector(Payees.InvalidSignature.selector, vm.addr(999)));
        other.registerPayee(vm.addr(999), deadline, right);

        vm.warp(block.timestamp + 1);
        vm.expectRevert(abi.encodeWithSelector(Payees.RegistrationExpired.selector, deadline));
        escrow.registerPayee(vm.addr(999), deadline, right);
    }

    function test_registerPayee__twice__is_refused() public {
        uint64 deadline = uint64(block.timestamp);
        bytes memory signature = _registration(payeeKeys[0], payees[0], deadline);
        vm.expectRevert(abi.encodeWithSelector(Payees.PayeeAlreadyRegistered.selector, payees[0]));
        escrow.registerPayee(payees[0], deadline, signature);
    }

    function test_registerPayee__contract_wallet__is_asked() public {
        uint64 deadline = uint64(block.timestamp);
        address place = address(0xBA117);
        bytes32 structHash = keccak256(
            abi.encode(keccak256("PayeeRegistration(address payee,uint64 deadline)"), place, deadline)
        );
        Wallet wallet =
            new Wallet(keccak256(abi.encodePacked(hex"1901", escrow.domainSeparator(), structHash)));
        vm.etch(place, address(wallet).code);
        escrow.registerPayee(place, deadline, "");
        assertEq(escrow.payeeActiveFrom(place), block.timestamp + DELAY, "active from");
    }

    function test_credits__rest_at_least_one_window_and_at_most_two() public {
        vm.warp((block.timestamp / WINDOW + 1) * WINDOW); // a window's start
        _settle(_line(payers[0], payees[0], 5));
        vm.warp(block.timestamp + 2 * WINDOW - 1);
        assertEq(_withdrawable(payees[0]), 0, "still rests");
        vm.prank(payees[0]);
        vm.expectRevert(abi.encodeWithSelector(Holdings.NothingToWithdraw.selector, payees[0]));
        escrow.withdrawCredits();
        vm.warp(block.timestamp + 1);
        assertEq(_withdrawable(payees[0]), 5, "has matured");
        vm.prank(payees[0]);
        escrow.withdrawCredits();
        assertEq(token.balanceOf(payees[0]), 5, "tokens");
        assertEq(_owed(payees[0]), 0, "nothing left");
    }

    function testFuzz_credits__paid_and_withdrawn_at_any_times__are_paid_once(uint32[8] calldata pauses)
        public
    {
        uint256 credited;
        uint256 lastCredit;
        for (uint256 i = 0; i < pauses.length; i++) {
            vm.warp(block.timestamp + INTERVAL + pauses[i] % (3 * WINDOW));
            if (i % 2 == 0) {
                _settle(_line(payers[0], payees[0], uint96(i + 1)));
                credited += i + 1;
                lastCredit = block.timestamp;
            } else if (_withdrawable(payees[0]) != 0) {
                vm.prank(payees[0]);
                escrow.withdrawCredits();
            }
            assertEq(_owed(payees[0]) + token.balanceOf(payees[0]), credited, "owed + paid = credited");
            if (block.timestamp < lastCredit + WINDOW) assertTrue(_owed(payees[0]) != 0, "rests a window");
        }
        vm.warp(block.timestamp + 2 * WINDOW);
        if (_owed(payees[0]) != 0) {
            vm.prank(payees[0]);
            escrow.withdrawCredits();
        }
        assertEq(token.balanceOf(payees[0]), credited, "all of it in the end");
    }

    function test_constructor__configurations_that_cannot_work__are_refused() public {
        FallowEscrow.Config memory config = _config();
        config.operator = address(0);
        vm.expectRevert(abi.encodeWithSelector(Faults.ZeroAddress.selector));
        new FallowEscrow(config);
        config = _config();
        config.token = IERC20(address(0x77));
        vm.expectRevert(abi.encodeWithSelector(Faults.InvalidConfig.selector));
        new FallowEscrow(config);
        config = _config();
        config.disputeWindow = 0;
        vm.expectRevert(abi.encodeWithSelector(Faults.InvalidConfig.selector));
        new FallowEscrow(config);
    }

    function test_setGuardian__by_the_owner__moves_the_right_to_pause() public {
        vm.prank(owner);
        escrow.setGuardian(address(0x77));
        vm.prank(guardian);
        vm.expectRevert(abi.encodeWithSelector(Roles.NotGuardian.selector, guardian));
        escrow.pause();
        vm.prank(address(0x77));
        escrow.pause();
        assertTrue(escrow.paused(), "paused");
    }

    function test_eip712Domain__names_what_is_signed() public view {
        (bytes1 fields, string memory name, string memory version, uint256 id, address place, bytes32 salt,) =
            escrow.eip712Domain();
        assertTrue(fields == 0x1f && id == block.chainid && place == address(escrow), "domain");
        assertEq(salt, HUB_ID, "salt");
        assertEq(keccak256(bytes(string.concat(name, version))), keccak256("Fallow1"), "name and version");
    }
}
