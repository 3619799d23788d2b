// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";

/// @dev A token behind a proxy, as the large stablecoins are: every call costs a slot and a delegatecall more.
contract ProxyToken is ERC1967Proxy {
    constructor(address implementation)
        payable
        ERC1967Proxy(implementation, abi.encodeWithSignature("decimals()"))
    {}
}
