// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {FallowEscrow} from "../src/FallowEscrow.sol";
import {Base, Vm} from "./Base.t.sol";

/// @dev Recomputes with Solidity what Python wrote to test/vectors.
contract VectorsTest is Base {
    string private json;

    function test_merkle__every_leaf__is_proven_by_openzeppelin() public {
        json = vm.readFile("test/vectors/merkle.json");
        bytes32 root = _word(".root");
        for (uint256 i = 0; i < _number(".count"); i++) {
            string memory n = vm.toString(i);
            bytes32 leaf = _word(string.concat(".leaf", n));
            bytes memory encoded = vm.parseJsonBytes(json, string.concat(".encoded", n));
            assertEq(_leaf(encoded), leaf, "leaf");
            bytes32[] memory proof = vm.parseJsonBytes32Array(json, string.concat(".proof", n));
            assertTrue(MerkleProof.verify(proof, root, leaf), "proof");
        }
    }

    function test_attempts__leaves_and_root() public {
        json = vm.readFile("test/vectors/attempts.json");
        bytes32 typehash = keccak256(bytes(vm.parseJsonString(json, ".type")));
        assertEq(
            typehash,
            keccak256(
                "AttemptLeaf(uint32 index,uint32 attempt,uint64 fromSeconds,uint64 toSeconds,bytes1 outcome,bytes32 digest)"
            ),
            "type"
        );
        bytes32[2] memory leaves;
        for (uint256 i = 0; i < 2; i++) {
            string memory path = string.concat(".attempt", vm.toString(i));
            bytes memory encoded = abi.encode(
                typehash,
                uint32(_number(string.concat(path, ".index"))),
                uint32(_number(string.concat(path, ".attempt"))),
                uint64(_number(string.concat(path, ".fromSeconds"))),
                uint64(_number(string.concat(path, ".toSeconds"))),
                bytes1(vm.parseJsonBytes(json, string.concat(path, ".outcome"))),
                _word(string.concat(path, ".digest"))
            );
            leaves[i] = _leaf(encoded);
            assertEq(leaves[i], _word(string.concat(path, ".leaf")), "leaf");
        }
        assertEq(_pair(leaves[0], leaves[1]), _word(".root"), "root");
    }

    function test_messages__digests_and_signers() public {
        json = vm.readFile("test/vectors/messages.json");
        bytes32 separator =
            _separator(_number(".chainId"), vm.parseJsonAddress(json, ".escrow"), _word(".hubId"));
        assertEq(separator, _word(".separator"), "separator");
        assertEq(_separator(0, address(0), _word(".hubId")), _word(".ledgerSeparator"), "ledger");
        string[4] memory names = ["quote", "receipt", "authorization", "registration"];
        for (uint256 i = 0; i < names.length; i++) {
            string memory path = string.concat(".", names[i]);
            bytes32 structHash = keccak256(
                bytes.concat(
                    keccak256(bytes(vm.parseJsonString(json, string.concat(path, ".type")))),
                    vm.parseJsonBytes(json, string.concat(path, ".words"))
                )
            );
            assertEq(structHash, _word(string.concat(path, ".structHash")), names[i]);
            bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator, structHash));
            assertEq(digest, _word(string.concat(path, ".digest")), names[i]);
            bytes memory signature = vm.parseJsonBytes(json, string.concat(path, ".signature"));
            address signer = vm.parseJsonAddress(json, string.concat(path, ".signer"));
            assertTrue(ECDSA.recover(digest, signature) == signer, names[i]);
        }
    }

    function test_epoch__ids_leaves_roots_and_commitment() public {
        json = vm.readFile("test/vectors/epoch.json");
        uint256 count = _number(".claimCount");
        bytes32[] memory claims = new bytes32[](count);
        bytes32[] memory allocations = new bytes32[](count);
        for (uint256 i = 0; i < count; i++) {
            string memory path = string.concat(".claim", vm.toString(i));
            bytes32 id = keccak256(
                abi.encode(
                    _word(".hubId"),
                    _uid(string.concat(path, ".placementUid")),
                    uint64(_number(string.concat(path, ".sequence")))
                )
            );
            assertEq(id, _word(string.concat(path, ".claimId")), "claim id");
            claims[i] = _claimLeaf(path, i);
            allocations[i] = _allocationLeaf(path, i);
            assertEq(claims[i], _word(string.concat(path, ".claimLeaf")), "claim leaf");
            assertEq(allocations[i], _word(string.concat(path, ".allocationLeaf")), "allocation leaf");
        }
        assertEq(_root(claims), _word(".claimsRoot"), "claims root");
        assertEq(_root(allocations), _word(".allocationsRoot"), "allocations root");
        bytes32 commitmentHash = keccak256(
            abi.encode(
                keccak256(
                    "Settlement(uint64 epoch,bytes32 previousCommitment,bytes32 linesHash,bytes32 claimsRoot,bytes32 allocationsRoot,bytes32 bundleHash)"
                ),
                uint64(_number(".epoch")),
                _word(".previousCommitment"),
                keccak256(vm.parseJsonBytes(json, ".packedLines")),
                _word(".claimsRoot"),
                _word(".allocationsRoot"),
                _word(".bundleHash")
            )
        );
        assertEq(commitmentHash, _word(".commitment"), "commitment");
    }

    /// @dev In three parts: one abi.encode of all fields is too deep for the stack.
    function _claimLeaf(string memory path, uint256 index) private view returns (bytes32) {
        bytes memory middle = abi.encode(
            _word(string.concat(path, ".claimId")),
            keccak256(bytes(vm.parseJsonString(json, string.concat(path, ".provider")))),
            _uid(string.concat(path, ".jobUid")),
            _uid(string.concat(path, ".placementUid")),
            _word(string.concat(path, ".quoteHash")),
            _word(string.concat(path, ".receiptHash")),
            _word(string.concat(path, ".attemptsRoot"))
        );
        bytes memory end = abi.encode(
            vm.parseJsonAddress(json, string.concat(path, ".payer")),
            vm.parseJsonAddress(json, string.concat(path, ".payee")),
            uint64(_number(string.concat(path, ".totalSeconds"))),
            _number(string.concat(path, ".pricePerTaskHour")),
            _number(string.concat(path, ".amount"))
        );
        return _leaf(bytes.concat(_head(".claimType", path, index), middle, end));
    }

    function _allocationLeaf(string memory path, uint256 index) private view returns (bytes32) {
        bytes memory end = abi.encode(
            uint32(_number(string.concat(path, ".lineIndex"))),
            _word(string.concat(path, ".claimId")),
            _number(string.concat(path, ".amount"))
        );
        return _leaf(bytes.concat(_head(".allocationType", path, index), end));
    }

    function _head(string memory typePath, string memory path, uint256 index)
        private
        view
        returns (bytes memory)
    {
        return abi.encode(
            keccak256(bytes(vm.parseJsonString(json, typePath))),
            _word(string.concat(path, ".salt")),
            _number(".chainId"),
            vm.parseJsonAddress(json, ".escrow"),
            uint64(_number(".epoch")),
            uint32(index)
        );
    }

    function _separator(uint256 chain, address place, bytes32 salt) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
                ),
                keccak256("Fallow"),
                keccak256("1"),
                chain,
                place,
                salt
            )
        );
    }

    function _leaf(bytes memory encoded) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(encoded)));
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    /// @dev The standard tree's root: leaves ascending from the array's end.
    function _root(bytes32[] memory leaves) private pure returns (bytes32) {
        uint256 count = leaves.length;
        for (uint256 i = 1; i < count; i++) {
            for (uint256 j = i; j > 0 && leaves[j] < leaves[j - 1]; j--) {
                (leaves[j], leaves[j - 1]) = (leaves[j - 1], leaves[j]);
            }
        }
        bytes32[] memory tree = new bytes32[](2 * count - 1);
        for (uint256 i = 0; i < count; i++) {
            tree[2 * count - 2 - i] = leaves[i];
        }
        for (uint256 i = count - 1; i > 0; i--) {
            tree[i - 1] = _pair(tree[2 * i - 1], tree[2 * i]);
        }
        return tree[0];
    }

    function _word(string memory path) private view returns (bytes32) {
        return vm.parseJsonBytes32(json, path);
    }

    function _number(string memory path) private view returns (uint256) {
        return vm.parseJsonUint(json, path);
    }

    function _uid(string memory path) private view returns (bytes16) {
        return bytes16(vm.parseJsonBytes(json, path));
    }
}
