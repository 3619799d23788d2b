// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title A token for rigs and tests: 6 decimals like USDC, and anyone may mint.
/// @dev Worthless by design. Never deploy it where money is.
contract TestToken is ERC20, ERC20Permit {
    constructor() ERC20("Fallow Test Dollar", "TUSD") ERC20Permit("Fallow Test Dollar") {}

    /// @notice Makes `amount` new units for `account`.
    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    /// @inheritdoc ERC20
    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
