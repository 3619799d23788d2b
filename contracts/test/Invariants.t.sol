// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {FallowEscrow} from "../src/FallowEscrow.sol";
import {TestToken} from "../src/TestToken.sol";
import {Base, Vm} from "./Base.t.sol";
import {Line, Packing} from "./Packing.sol";

/// @dev Everyone who touches the escrow, doing whatever the fuzzer says, with books of its own.
contract Actors {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    FallowEscrow private immutable escrow;
    TestToken private immutable token;
    address private immutable operator;
    address private immutable guardian;
    address private immutable owner;
    uint96 private immutable cap;
    uint24 private immutable interval;
    address[] private payers;
    address[] private payees;

    uint256 public deposited;
    uint256 public withdrawn;
    uint256 public paidOut;
    uint256 public settlements;
    bool public boundBroken;
    mapping(address payer => uint256) private lastDebitAt;
    mapping(address payer => uint256) public debited;
    mapping(address payee => uint256) public credited;

    constructor(
        FallowEscrow escrow_,
        TestToken token_,
        address[3] memory roles,
        address[] memory payers_,
        address[] memory payees_,
        uint96 cap_,
        uint24 interval_
    ) {
        (escrow, token, cap, interval) = (escrow_, token_, cap_, interval_);
        (operator, guardian, owner) = (roles[0], roles[1], roles[2]);
        (payers, payees) = (payers_, payees_);
        deposited = token_.balanceOf(address(escrow_));
    }

    /// @dev Seconds around the interval, or days around notice and window.
    function wait(uint32 pause) external {
        vm.warp(block.timestamp + (pause % 2 == 0 ? pause % (2 * interval) : pause % 4 days));
    }

    /// @dev The operator, honest or malicious: now and then a stranger as payee, or lines out of order.
    function settle(uint256 seed, uint96[4] calldata amounts) external {
        uint256 malice = (seed >> 8) % 16;
        Line[] memory first = _group(0, seed, malice, amounts);
        Line[] memory second = _group(2, seed, malice, amounts);
        bytes memory lines =
            Packing.pack(malice == 1 ? Packing.join(second, first) : Packing.join(first, second));
        uint64 last = escrow.lastEpoch();
        bytes32 previous = escrow.commitments(last);
        vm.prank(operator);
        try escrow.settle(last + 1, previous, lines, bytes32(seed), 0, 0) {
            settlements++;
            uint256[2] memory sums;
            for (uint256 i = 0; i < 4; i++) {
                if ((seed >> i) % 2 == 0) continue;
                debited[payers[i / 2]] += _bounded(amounts[i]);
                credited[payees[i % 2]] += _bounded(amounts[i]);
                sums[i / 2] += _bounded(amounts[i]);
            }
            _checkBound(payers[0], sums[0]);
            _checkBound(payers[1], sums[1]);
        } catch {}
    }

    /// @dev Lines `first` and `first + 1` of one payer; none when the seed has neither.
    function _group(uint256 first, uint256 seed, uint256 malice, uint96[4] calldata amounts)
        private
        view
        returns (Line[] memory lines)
    {
        for (uint256 i = first; i < first + 2; i++) {
            if ((seed >> i) % 2 == 0) continue;
            Line[] memory line = new Line[](1);
            address payee = malice == 0 ? address(uint160(seed)) : payees[i % 2];
            line[0] = Line(payers[first / 2], payee, _bounded(amounts[i]));
            lines = Packing.join(lines, line);
        }
    }

    function _checkBound(address payer, uint256 debit) private {
        if (debit == 0) return;
        if (debit > cap || block.timestamp < lastDebitAt[payer] + interval) boundBroken = true;
        lastDebitAt[payer] = block.timestamp;
    }

    /// @dev Two of them exceed the cap now and then.
    function _bounded(uint96 amount) private view returns (uint96) {
        return amount % (cap / 16 * 10);
    }

    function deposit(uint256 who, uint96 amount) external {
        amount = amount % 1_000e6;
        address payer = payers[who % 2];
        token.mint(payer, amount);
        vm.prank(payer);
        token.approve(address(escrow), amount);
        vm.prank(payer);
        try escrow.deposit(payer, amount) {
            deposited += amount;
        } catch {}
    }

    function giveNotice(uint256 who, uint96 amount) external {
        vm.prank(payers[who % 2]);
        escrow.giveWithdrawalNotice(amount);
    }

    function withdraw(uint256 who) external {
        address payer = payers[who % 2];
        uint256 before = token.balanceOf(payer);
        vm.prank(payer);
        try escrow.withdraw() {
            withdrawn += token.balanceOf(payer) - before;
        } catch {}
    }

    function withdrawCredits(uint256 who) external {
        address payee = payees[who % 2];
        uint256 before = token.balanceOf(payee);
        vm.prank(payee);
        try escrow.withdrawCredits() {
            paidOut += token.balanceOf(payee) - before;
        } catch {}
    }

    function pauseOrNot(uint8 seed) external {
        bool stop = seed % 4 == 0;
        vm.prank(stop ? guardian : owner);
        stop ? escrow.pause() : escrow.unpause();
    }

    /// @dev A stranger tries everything that is not its own.
    function stranger(address who, uint256 seed) external {
        if (who == operator || who == payers[0] || who == payers[1] || who == payees[0] || who == payees[1]) {
            return;
        }
        bytes[4] memory calls = [
            abi.encodeCall(escrow.withdraw, ()),
            abi.encodeCall(escrow.withdrawCredits, ()),
            abi.encodeCall(escrow.giveWithdrawalNotice, (uint96(seed))),
            abi.encodeCall(escrow.settle, (escrow.lastEpoch() + 1, 0, abi.encodePacked(seed), 0, 0, 0))
        ];
        vm.prank(who);
        (bool done,) = address(escrow).call(calls[seed % 4]);
        require(!done || seed % 4 == 2, "a stranger got through");
    }
}

/// @dev What holds whatever happens.
contract InvariantsTest is Base {
    Actors private actors;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < 2; i++) {
            if (payees[0] > payees[1]) (payees[0], payees[1]) = (payees[1], payees[0]);
        }
        actors = new Actors(escrow, token, [operator, guardian, owner], payers, payees, CAP, INTERVAL);
    }

    /// @dev Read by forge: only the actors are called.
    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    function invariant_solvency__tokens_held_cover_what_is_owed() public view {
        escrow.checkSolvency();
        uint256 owed = _balance(payers[0]) + _balance(payers[1]) + _owed(payees[0]) + _owed(payees[1]);
        assertEq(escrow.liabilities(), owed, "liabilities are the sum of all accounts");
        assertEq(
            token.balanceOf(address(escrow)),
            actors.deposited() - actors.withdrawn() - actors.paidOut(),
            "tokens = deposits - withdrawals"
        );
    }

    function invariant_settling__debits_are_credits() public view {
        uint256 debits = actors.debited(payers[0]) + actors.debited(payers[1]);
        assertEq(debits, actors.credited(payees[0]) + actors.credited(payees[1]), "debits = credits");
        assertEq(escrow.lastEpoch(), actors.settlements(), "every epoch once");
    }

    function invariant_payees__nobody_is_paid_more_than_credited() public view {
        for (uint256 i = 0; i < 2; i++) {
            assertEq(
                token.balanceOf(payees[i]) + _owed(payees[i]),
                actors.credited(payees[i]),
                "paid + owed = credited"
            );
        }
    }

    function invariant_operator__is_bounded_by_cap_and_interval() public view {
        assertTrue(!actors.boundBroken(), "a debit above the cap, or two within the interval");
    }
}
