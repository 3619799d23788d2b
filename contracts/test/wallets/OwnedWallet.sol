// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC1271} from "@openzeppelin/contracts/interfaces/IERC1271.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// @dev A wallet as small as can be: its owner signs and calls for it, and can be changed, or made to misbehave.
contract OwnedWallet is IERC1271 {
    enum Mood {
        Honest,
        Reverts,
        BurnsGas
    }

    address public owner;
    Mood public mood;

    constructor(address first) {
        owner = first;
    }

    modifier onlyOwner() {
        require(msg.sender == owner, "not the owner");
        _;
    }

    function setOwner(address next) external onlyOwner {
        owner = next;
    }

    function setMood(Mood next) external onlyOwner {
        mood = next;
    }

    function execute(address to, bytes calldata data) external onlyOwner returns (bytes memory) {
        (bool done, bytes memory answer) = to.call(data);
        require(done, "the call reverted");
        return answer;
    }

    /// @inheritdoc IERC1271
    function isValidSignature(bytes32 digest, bytes memory signature) external view returns (bytes4) {
        require(mood != Mood.Reverts, "no");
        while (mood == Mood.BurnsGas) {}
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecover(digest, signature);
        return problem == ECDSA.RecoverError.NoError && signer == owner
            ? IERC1271.isValidSignature.selector
            : bytes4(0xffffffff);
    }
}
