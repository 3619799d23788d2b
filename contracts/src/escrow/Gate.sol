// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Holdings} from "./Holdings.sol";

/// @title Who may settle, and whether settling goes on at all.
/// @notice Settling asks one slot while nothing stands in its way: `_unhindered`, which shares the slot of
/// `liabilities`. Who is not that address is told why by `_gate`, where the facts are.
abstract contract Gate is Holdings {
    /// @dev One slot. `closesAt` 0 means open.
    struct State {
        address operator;
        uint40 closesAt;
        bool paused;
    }

    /// @dev The operator while settling is neither paused nor about to end, else zero. `_change` alone writes it.
    /// Declared first, to share a slot with `liabilities`: settling and deposits read both.
    address private _unhindered;

    State private _gate;

    error NotOperator(address sender);
    error SettlingPaused();
    error Closed(uint256 closesAt);
    error NotClosed(uint256 closesAt);

    /// @notice Who may settle.
    function operator() external view returns (address) {
        return _gate.operator;
    }

    /// @notice Whether settling is stopped.
    function paused() external view returns (bool) {
        return _gate.paused;
    }

    /// @notice When settling ends for good, in Unix seconds; 0 while the escrow is open.
    function closesAt() external view returns (uint40) {
        return _gate.closesAt;
    }

    function _state() internal view returns (State memory) {
        return _gate;
    }

    function _change(State memory gate) internal {
        _gate = gate;
        _unhindered = gate.paused || gate.closesAt != 0 ? address(0) : gate.operator;
    }

    /// @dev Reverts unless the caller may settle now.
    function _requireSettling() internal view {
        if (msg.sender == _unhindered) return;
        State memory gate = _gate;
        if (msg.sender != gate.operator) revert NotOperator(msg.sender);
        if (gate.paused) revert SettlingPaused();
        if (_over(gate)) revert Closed(gate.closesAt);
    }

    /// @dev Reverts once the escrow is closing.
    function _requireNotClosing() internal view {
        if (_unhindered == address(0) && _gate.closesAt != 0) revert Closed(_gate.closesAt);
    }

    /// @dev Reverts until settling has ended for good.
    function _requireClosed() internal view {
        State memory gate = _gate;
        if (!_over(gate)) revert NotClosed(gate.closesAt);
    }

    function _over(State memory gate) private view returns (bool) {
        return gate.closesAt != 0 && block.timestamp >= gate.closesAt;
    }
}
