// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Gate} from "./Gate.sol";

/// @title Owner, guardian and operator.
/// @notice The owner (a multisig) names the others and can close; it can move nobody's money. The guardian can
/// stop settling, never start it. The operator can settle, and is replaced in two steps with a delay: payers
/// have authorised the hub, not the key, and can leave or object before a new key can debit them.
abstract contract Roles is Gate, Ownable2Step {
    using SafeCast for uint256;

    /// @dev An operator to be. `from` 0 means none.
    struct Succession {
        address next;
        uint40 from;
    }

    /// @notice Seconds between the proposal of an operator and its earliest acceptance.
    uint256 public constant OPERATOR_DELAY = 24 hours;

    /// @notice Who may pause.
    address public guardian;

    Succession private _succession;

    event PausedChanged(bool paused);
    event GuardianChanged(address guardian);
    event OperatorProposed(address indexed operator, uint256 acceptableFrom);
    event OperatorChanged(address indexed previous, address indexed operator);

    error NotGuardian(address sender);

    constructor(address owner_, address operator_, address guardian_) Ownable(owner_) {
        if (operator_ == address(0) || guardian_ == address(0)) revert ZeroAddress();
        _change(State({operator: operator_, closesAt: 0, paused: false}));
        guardian = guardian_;
    }

    /// @notice Stops settling at once. The guardian's or the owner's.
    function pause() external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotGuardian(msg.sender);
        _setPaused(true);
    }

    /// @notice Lets settling go on. The owner's only: a stolen guardian key can stop, never start.
    function unpause() external onlyOwner {
        _setPaused(false);
    }

    function _setPaused(bool paused_) private {
        State memory gate = _state();
        gate.paused = paused_;
        _change(gate);
        emit PausedChanged(paused_);
    }

    /// @notice Names another guardian.
    function setGuardian(address newGuardian) external onlyOwner {
        if (newGuardian == address(0)) revert ZeroAddress();
        guardian = newGuardian;
        emit GuardianChanged(newGuardian);
    }

    /// @notice Proposes an operator, who can accept after 24 hours. Replaces an earlier proposal; zero
    /// withdraws it. The present operator stays until then; `pause` is what stops a stolen key.
    function proposeOperator(address newOperator) external onlyOwner {
        uint40 from = newOperator == address(0) ? 0 : (block.timestamp + OPERATOR_DELAY).toUint40();
        _succession = Succession({next: newOperator, from: from});
        emit OperatorProposed(newOperator, from);
    }

    /// @notice Makes the caller, who was proposed, the operator: the new key has shown that it works.
    function acceptOperator() external {
        Succession memory succession = _succession;
        if (msg.sender != succession.next) revert NotProposed(msg.sender);
        if (block.timestamp < succession.from) revert TooEarly(succession.from);
        delete _succession;
        State memory gate = _state();
        emit OperatorChanged(gate.operator, msg.sender);
        gate.operator = msg.sender;
        _change(gate);
    }

    /// @notice An escrow without an owner could be paused for ever: refused.
    function renounceOwnership() public view override onlyOwner {
        revert ZeroAddress();
    }

    /// @notice The proposed operator and from when on it can accept; zeros when there is none.
    function proposedOperator() external view returns (address next, uint40 acceptableFrom) {
        return (_succession.next, _succession.from);
    }
}
