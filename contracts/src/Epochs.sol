// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The formats of an epoch: its commitment, its packed lines, its leaves.
/// @notice Pure functions that the escrow, the disputes and the tests share; `docs/contract.md` has them in
/// words, and `test/vectors` holds them together with their Python twins.
library Epochs {
    /// @dev What a commitment is the hash of. `epoch` starts at 1.
    struct Header {
        uint64 epoch;
        bytes32 previousCommitment;
        bytes32 linesHash;
        bytes32 claimsRoot;
        bytes32 allocationsRoot;
        bytes32 bundleHash;
    }

    /// @dev One claim, with everything that its leaves say. Amounts in the token's smallest unit.
    struct Claim {
        bytes32 salt;
        uint32 index;
        bytes32 claimId;
        bytes32 providerHash;
        bytes16 jobUid;
        bytes16 placementUid;
        bytes32 quoteHash;
        bytes32 receiptHash;
        bytes32 attemptsRoot;
        address payer;
        address payee;
        uint64 totalSeconds;
        uint256 pricePerTaskHour;
        uint256 amount;
    }

    /// @dev Bytes of the number of payees, and of each.
    uint256 internal constant COUNT_BYTES = 2;
    uint256 internal constant PAYEE_BYTES = 20;
    /// @dev Bytes of a group's head: payer (20) and number of lines (2).
    uint256 internal constant GROUP_BYTES = 22;
    /// @dev Bytes of a line: which payee (2) and amount (12).
    uint256 internal constant LINE_BYTES = 14;

    bytes32 private constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(uint64 epoch,bytes32 previousCommitment,bytes32 linesHash,bytes32 claimsRoot,"
        "bytes32 allocationsRoot,bytes32 bundleHash)"
    );
    bytes32 private constant CLAIM_TYPEHASH = keccak256(
        "ClaimLeaf(bytes32 salt,uint256 chainId,address escrow,uint64 epoch,uint32 index,bytes32 claimId,"
        "string provider,bytes16 jobUid,bytes16 placementUid,bytes32 quoteHash,bytes32 receiptHash,"
        "bytes32 attemptsRoot,address payer,address payee,uint64 totalSeconds,"
        "uint256 pricePerTaskHour,uint256 amount)"
    );
    bytes32 private constant ALLOCATION_TYPEHASH = keccak256(
        "AllocationLeaf(bytes32 salt,uint256 chainId,address escrow,uint64 epoch,uint32 index,uint32 lineIndex,"
        "bytes32 claimId,uint256 amount)"
    );

    error MalformedLines(uint256 length);
    error NoSuchLine(uint32 lineIndex);

    /// @notice The commitment of an epoch: the struct hash of its header.
    function commitment(Header memory header) internal pure returns (bytes32) {
        return keccak256(abi.encode(SETTLEMENT_TYPEHASH, header));
    }

    /// @notice How many payees the lines name, and the offset of the first group after them.
    /// @dev Reverts unless there is at least one, and something after them.
    function payeesOf(bytes calldata lines) internal pure returns (uint256 count, uint256 end) {
        count = wordAt(lines, 0) >> 240;
        end = COUNT_BYTES + count * PAYEE_BYTES;
        if (count == 0 || end >= lines.length) revert MalformedLines(lines.length);
    }

    /// @notice Payee `index` of the lines, which the caller knows to be one of them.
    function payeeAt(bytes calldata lines, uint256 index) internal pure returns (address) {
        // The cast cuts the address out of the word.
        // forge-lint: disable-next-line(unsafe-typecast)
        return address(uint160(wordAt(lines, COUNT_BYTES + index * PAYEE_BYTES) >> 96));
    }

    /// @notice The head of the group at `offset`; `end` is where the next one starts.
    /// @dev Reverts unless the group has at least one line and lies within `lines`.
    function groupAt(bytes calldata lines, uint256 offset)
        internal
        pure
        returns (address payer, uint256 count, uint256 end)
    {
        if (offset + GROUP_BYTES > lines.length) revert MalformedLines(lines.length);
        uint256 word = wordAt(lines, offset);
        // Each cast cuts one field out of the word.
        // forge-lint: disable-next-line(unsafe-typecast)
        payer = address(uint160(word >> 96));
        // forge-lint: disable-next-line(unsafe-typecast)
        count = uint16(word >> 80);
        end = offset + GROUP_BYTES + count * LINE_BYTES;
        if (end > lines.length || count == 0) revert MalformedLines(lines.length);
    }

    /// @notice The line at `offset`, which the caller knows to lie within a group.
    function lineAt(bytes calldata lines, uint256 offset)
        internal
        pure
        returns (uint256 payeeIndex, uint256 amount)
    {
        uint256 word = wordAt(lines, offset);
        payeeIndex = word >> 240;
        // The cast cuts the amount out of the word.
        // forge-lint: disable-next-line(unsafe-typecast)
        amount = uint96(word >> 144);
    }

    /// @notice Line `lineIndex` of settled lines, counted from 0 over all groups.
    function line(bytes calldata lines, uint32 lineIndex)
        internal
        pure
        returns (address payer, address payee, uint96 amount)
    {
        uint256 before = 0;
        (, uint256 offset) = payeesOf(lines);
        while (offset < lines.length) {
            uint256 count;
            uint256 end;
            (payer, count, end) = groupAt(lines, offset);
            if (lineIndex < before + count) {
                (uint256 index, uint256 given) =
                    lineAt(lines, offset + GROUP_BYTES + (lineIndex - before) * LINE_BYTES);
                // A line's amount has 96 bits.
                // forge-lint: disable-next-line(unsafe-typecast)
                return (payer, payeeAt(lines, index), uint96(given));
            }
            before += count;
            offset = end;
        }
        revert NoSuchLine(lineIndex);
    }

    /// @notice The leaf by which `claimsRoot` names a claim of `epoch` of `escrow`.
    function claimLeaf(Claim calldata claim, address escrow, uint64 epoch) internal view returns (bytes32) {
        // In parts: one abi.encode of all fields is too deep for the stack. All are static words.
        bytes memory what = abi.encode(
            claim.claimId,
            claim.providerHash,
            claim.jobUid,
            claim.placementUid,
            claim.quoteHash,
            claim.receiptHash,
            claim.attemptsRoot
        );
        bytes memory money =
            abi.encode(claim.payer, claim.payee, claim.totalSeconds, claim.pricePerTaskHour, claim.amount);
        return _leaf(bytes.concat(_leafHead(CLAIM_TYPEHASH, claim, escrow, epoch), what, money));
    }

    /// @notice The leaf by which `allocationsRoot` gives a claim its part of a line.
    function allocationLeaf(Claim calldata claim, address escrow, uint64 epoch, uint32 lineIndex)
        internal
        view
        returns (bytes32)
    {
        bytes memory part = abi.encode(lineIndex, claim.claimId, claim.amount);
        return _leaf(bytes.concat(_leafHead(ALLOCATION_TYPEHASH, claim, escrow, epoch), part));
    }

    function _leafHead(bytes32 typehash, Claim calldata claim, address escrow, uint64 epoch)
        private
        view
        returns (bytes memory)
    {
        return abi.encode(typehash, claim.salt, block.chainid, escrow, epoch, claim.index);
    }

    /// @dev Hashed twice, as OpenZeppelin's standard tree has it: a leaf is never an inner node.
    function _leaf(bytes memory encoded) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(encoded)));
    }

    /// @dev The 32 bytes at `offset`; beyond the end of calldata they are zeros, so callers check lengths.
    function wordAt(bytes calldata data, uint256 offset) internal pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, offset))
        }
    }
}
