// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Holdings} from "../escrow/Holdings.sol";

/// @title Stakes of payees and of the hub, and what is taken from them.
/// @notice A payee stakes under its own address, the hub under the escrow's. Leaving takes longer than the
/// longest dispute about anything credited before, so nobody leaves ahead of a ruling. What is slashed, and bonds
/// that are lost, go to the beneficiary named at deployment, and to nobody when that is a party of the dispute.
abstract contract Stakes is Holdings {
    using SafeCast for uint256;

    /// @dev `unbonding` is the part of `amount` that has been asked back. `unbondsAt` 0 means none.
    struct Stake {
        uint96 amount;
        uint96 unbonding;
        uint40 unbondsAt;
    }

    /// @dev Why a stake is slashed. Nothing else is a reason.
    enum Reason {
        ClaimRejected,
        LineNotRevealed,
        ClaimTwice
    }

    /// @notice How long matured unbonding can be executed before it expires, in seconds.
    uint256 public constant UNBONDING_VALIDITY = 24 hours;

    /// @notice Seconds from asking a stake back to getting it.
    uint32 public immutable unbondingPeriod;
    /// @notice Who gets what is slashed or forfeited; zero: nobody ever does.
    address public immutable beneficiary;

    mapping(address account => Stake) private _stakes;

    /// @notice What an account can collect here: bonds that came back, or what was slashed.
    mapping(address account => uint96) public collectable;

    event Staked(address indexed account, address indexed from, uint256 amount);
    event Unbonding(address indexed account, uint96 amount, uint256 unbondsAt);
    event Unstaked(address indexed account, address indexed to, uint256 amount);
    event Slashed(address indexed account, bytes32 indexed subject, Reason reason, uint256 amount);
    event Forfeited(address indexed to, uint256 amount);
    event Collected(address indexed account, uint256 amount);

    error NotController(address sender, address account);
    error StakeTooSmall(address account, uint256 wanted, uint256 staked);
    error NothingUnbonding(address account);
    error UnbondingExpired(uint256 expiredAt);

    constructor(uint32 unbondingPeriod_, address beneficiary_) {
        unbondingPeriod = unbondingPeriod_;
        beneficiary = beneficiary_;
    }

    /// @dev Who may ask `account`'s stake back.
    function _controllerOf(address account) internal view virtual returns (address);

    /// @dev Whether `account` is somebody who runs the hub.
    function _isHub(address account) internal view virtual returns (bool);

    /// @notice Adds `amount` of the caller's tokens to the stake of `account`. Needs an allowance.
    function stake(address account, uint96 amount) external nonReentrant {
        if (account == address(0)) revert ZeroAddress();
        _receive(amount);
        _stakes[account].amount += amount;
        emit Staked(account, msg.sender, amount);
    }

    /// @notice Asks `amount` of a stake back. Replaces what was asked before, whose time is lost; 0 cancels it.
    /// It can be slashed until it is withdrawn.
    function startUnbonding(address account, uint96 amount) external {
        _requireController(account);
        Stake storage staked = _stakes[account];
        if (amount > staked.amount) revert StakeTooSmall(account, amount, staked.amount);
        staked.unbonding = amount;
        staked.unbondsAt = amount == 0 ? 0 : (block.timestamp + unbondingPeriod).toUint40();
        emit Unbonding(account, amount, staked.unbondsAt);
    }

    /// @notice Pays what was asked back, or what is left of it, to the caller, within 24 hours of its time.
    function withdrawStake(address account) external nonReentrant {
        _requireController(account);
        Stake storage staked = _stakes[account];
        uint256 unbondsAt = staked.unbondsAt;
        if (unbondsAt == 0) revert NothingUnbonding(account);
        if (block.timestamp < unbondsAt) revert TooEarly(unbondsAt);
        if (block.timestamp > unbondsAt + UNBONDING_VALIDITY) {
            revert UnbondingExpired(unbondsAt + UNBONDING_VALIDITY);
        }
        uint96 amount = staked.unbonding;
        if (amount == 0) revert NothingToWithdraw(account);
        staked.amount -= amount;
        staked.unbonding = 0;
        staked.unbondsAt = 0;
        emit Unstaked(account, msg.sender, amount);
        _pay(msg.sender, amount);
    }

    function _requireController(address account) private view {
        if (msg.sender != _controllerOf(account)) revert NotController(msg.sender, account);
    }

    /// @notice Pays the caller what came back to it here.
    function collect() external nonReentrant {
        uint96 amount = collectable[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        collectable[msg.sender] = 0;
        emit Collected(msg.sender, amount);
        _pay(msg.sender, amount);
    }

    /// @dev Takes at most `most` of a stake. The caller sees to "once", and that `most` is at most the claim.
    function _slash(address account, bytes32 subject, uint256 most, Reason reason)
        internal
        returns (uint96 amount)
    {
        Stake storage staked = _stakes[account];
        uint256 there = staked.amount;
        amount = (most < there ? most : there).toUint96();
        if (amount == 0) return 0;
        uint96 left = staked.amount - amount;
        staked.amount = left;
        if (staked.unbonding > left) staked.unbonding = left;
        emit Slashed(account, subject, reason, amount);
    }

    /// @dev Gives `amount` to the beneficiary, unless that is a party or the hub: then nobody is owed it any more.
    function _forfeit(uint96 amount, address payer, address payee) internal {
        if (amount == 0) return;
        address to = beneficiary;
        if (to == payer || to == payee || _isHub(to)) to = address(0);
        if (to == address(0)) liabilities -= amount;
        else collectable[to] += amount;
        emit Forfeited(to, amount);
    }

    /// @notice What `account` has staked, and what of it is on its way back.
    function stakeOf(address account) external view returns (Stake memory) {
        return _stakes[account];
    }
}
