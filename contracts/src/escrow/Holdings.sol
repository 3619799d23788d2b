// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Faults} from "./Faults.sol";

/// @title Tokens held, and what is owed of them.
/// @notice The only code that moves tokens. `liabilities` is what all accounts are owed together: what comes
/// in counts only when the balance rose by exactly that much, what goes out is struck off first. Tokens above
/// `liabilities` are nobody's.
abstract contract Holdings is ReentrancyGuardTransient, Faults {
    using SafeERC20 for IERC20;

    /// @dev With fewer places a price per task-hour could not say a tenth of a cent.
    uint8 private constant MINIMUM_DECIMALS = 6;

    /// @notice The one token held here.
    IERC20 public immutable token;

    /// @notice What is owed to all accounts together, in the token's smallest unit; below 2**96, so that no
    /// single account can ever overflow its 96 bits.
    uint96 public liabilities;

    error NothingToWithdraw(address account);
    error DepositNotExact(uint256 received, uint256 wanted);
    error TooMuchHeld(uint256 liabilities);
    error Insolvent(uint256 balance, uint256 liabilities);

    constructor(IERC20 token_) {
        if (address(token_).code.length == 0) revert InvalidConfig();
        if (IERC20Metadata(address(token_)).decimals() < MINIMUM_DECIMALS) revert InvalidConfig();
        token = token_;
    }

    /// @notice Reverts unless the tokens held cover everything owed. Gates what comes in, never what goes out.
    function checkSolvency() public view {
        _solvent(liabilities);
    }

    function _solvent(uint256 owed) private view returns (uint256 balance) {
        balance = token.balanceOf(address(this));
        if (balance < owed) revert Insolvent(balance, owed);
    }

    /// @dev Takes `amount` of the caller's tokens; callers are nonReentrant and book it to an account.
    function _receive(uint96 amount) internal {
        if (amount == 0) revert ZeroAmount();
        uint256 owed = liabilities;
        uint256 before = _solvent(owed);
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert DepositNotExact(received, amount);
        owed += amount;
        if (owed > type(uint96).max) revert TooMuchHeld(owed);
        // Checked on the line above.
        // forge-lint: disable-next-line(unsafe-typecast)
        liabilities = uint96(owed);
    }

    /// @dev Pays `amount` out; callers are nonReentrant and have struck it off an account before. A transfer
    /// that the token refuses reverts that one withdrawal and nobody else's.
    function _pay(address to, uint96 amount) internal {
        liabilities -= amount;
        token.safeTransfer(to, amount);
    }
}
