// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Refusals that more than one part gives.
interface Faults {
    error ZeroAddress();
    error ZeroAmount();
    error InvalidConfig();
    error TooEarly(uint256 notBefore);
    error NotProposed(address sender);
}
