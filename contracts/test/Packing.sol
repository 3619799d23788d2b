// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev One line of an epoch.
struct Line {
    address payer;
    address payee;
    uint96 amount;
}

/// @dev Packs lines as an operator does, in whatever order they are given: the escrow has to judge that.
library Packing {
    function pack(Line[] memory lines) internal pure returns (bytes memory packed) {
        address[] memory payees = _payees(lines);
        packed = abi.encodePacked(uint16(payees.length));
        for (uint256 i = 0; i < payees.length; i++) {
            packed = bytes.concat(packed, abi.encodePacked(payees[i]));
        }
        uint256 next = 0;
        while (next < lines.length) {
            uint16 count = 0;
            bytes memory group = "";
            address payer = lines[next].payer;
            for (; next < lines.length && lines[next].payer == payer; next++) {
                uint16 index = _find(payees, lines[next].payee);
                group = bytes.concat(group, abi.encodePacked(index, lines[next].amount));
                count++;
            }
            packed = bytes.concat(packed, abi.encodePacked(payer, count), group);
        }
    }

    function join(Line[] memory a, Line[] memory b) internal pure returns (Line[] memory all) {
        all = new Line[](a.length + b.length);
        for (uint256 i = 0; i < all.length; i++) {
            all[i] = i < a.length ? a[i] : b[i - a.length];
        }
    }

    /// @dev Each payee once, ascending.
    function _payees(Line[] memory lines) private pure returns (address[] memory found) {
        address[] memory sorted = new address[](lines.length);
        uint256 count = 0;
        address last = address(0);
        while (true) {
            address least = address(type(uint160).max);
            for (uint256 i = 0; i < lines.length; i++) {
                if (lines[i].payee > last && lines[i].payee < least) least = lines[i].payee;
            }
            if (least == address(type(uint160).max)) break;
            sorted[count++] = last = least;
        }
        found = new address[](count);
        for (uint256 i = 0; i < count; i++) {
            found[i] = sorted[i];
        }
    }

    function _find(address[] memory payees, address payee) private pure returns (uint16 index) {
        while (index < payees.length && payees[index] != payee) {
            index++;
        }
    }
}
