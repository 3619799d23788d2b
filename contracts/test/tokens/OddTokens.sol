// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {TestToken} from "../../src/TestToken.sol";

/// @dev Refuses transfers to whom it has blocked.
contract BlockingToken is TestToken {
    mapping(address account => bool) public blocked;

    function setBlocked(address account, bool now_) external {
        blocked[account] = now_;
    }

    function _update(address from, address to, uint256 amount) internal override {
        require(!blocked[to], "blocked");
        super._update(from, to, amount);
    }
}

/// @dev Says nothing where ERC-20 wants a bool, as some old tokens do.
contract SilentToken {
    mapping(address account => uint256) public balanceOf;
    mapping(address account => mapping(address spender => uint256)) public allowance;
    uint8 public decimals = 6;

    function mint(address account, uint256 amount) external {
        balanceOf[account] += amount;
    }

    function approve(address spender, uint256 amount) external {
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @dev Too coarse to price work with.
contract CoarseToken is ERC20 {
    constructor() ERC20("Coarse", "C") {}

    function decimals() public pure override returns (uint8) {
        return 5;
    }
}

/// @dev Keeps a hundredth of each transfer.
contract TaxedToken is TestToken {
    function _update(address from, address to, uint256 amount) internal override {
        uint256 tax = from == address(0) || to == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - tax);
        if (tax != 0) super._update(from, address(0), tax);
    }
}
