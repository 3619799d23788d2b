// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Epochs} from "./Epochs.sol";
import {Holdings} from "./escrow/Holdings.sol";
import {Payees} from "./escrow/Payees.sol";
import {Payers} from "./escrow/Payers.sol";
import {Roles} from "./escrow/Roles.sol";

/// @dev What the escrow asks of a disputes module before it is attached.
interface IDisputes {
    function escrow() external view returns (address);
}

/// @title Holds payers' deposits and settles epochs of one Fallow hub.
/// @notice Payers deposit and bind how much may be debited how often. The operator settles epochs: lines
/// (payer, payee, amount), from which debits and credits are derived here. Payees are registered by their own
/// signature; their credits rest for the dispute window and are then theirs to withdraw.
///
/// A stolen operator key can take at most `cap` per `minInterval` from each bound payer, and can pay it to
/// registered payees only. Pausing stops settling, never a withdrawal.
///
/// One token, one hub, one chain of epochs per deployment; no proxy. Epoch n names the commitment of epoch
/// n-1, so an epoch can be included once only, and its commitment fixes lines, claims, allocations and the
/// archived bundle. The commitment of epoch 0 is the EIP-712 domain separator.
///
/// Read in this order: `Holdings` (tokens and what is owed), `Payers`, `Payees`, `Roles`, then `settle` here;
/// `FallowDisputes` uses the three functions at the end, which can move resting credits and nothing else.
contract FallowEscrow is Payers, Payees, Roles {
    using SafeCast for uint256;

    /// @dev What a deployment is made of; durations in seconds.
    struct Config {
        IERC20 token;
        bytes32 hubId;
        address owner;
        address operator;
        address guardian;
        address feeCollector;
        uint16 maxFeeBasisPoints;
        uint32 noticePeriod;
        uint32 payeeDelay;
        uint32 disputeWindow;
    }

    bytes32 private constant DOMAIN_TYPEHASH = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
    );

    /// @notice The hub whose epochs are settled here; the salt of the EIP-712 domain.
    bytes32 public immutable hubId;
    /// @notice The payee that fees are paid to, as ordinary lines; zero when there are none.
    address public immutable feeCollector;

    /// @notice The commitment of each settled epoch; of epoch 0 the domain separator.
    mapping(uint64 epoch => bytes32) public commitments;

    /// @notice The one contract that may freeze resting credits; zero when there is none.
    address public disputes;
    /// @notice Credits that a dispute holds, in the token's smallest unit; a part of `liabilities`.
    uint96 public frozen;
    /// @notice Where payers are meant to go once this escrow is closing; zero when nowhere is named.
    address public successor;

    event Settled(uint64 indexed epoch, bytes32 indexed commitment, bytes32 bundleHash);
    event DisputesAttached(address disputes);
    event CreditFrozen(uint64 indexed epoch, address indexed payee, uint256 amount);
    event CreditRefunded(address indexed payer, uint256 amount);
    event CreditReleased(address indexed payee, uint256 amount);
    event Closing(address successor, uint256 closesAt);

    error EpochOutOfOrder(uint64 given, uint64 expected);
    error PreviousCommitmentMismatch(bytes32 given, bytes32 expected);
    error LinesNotAscending(uint256 offset);
    error PayeesNotAscending(uint256 index);
    error NotDisputes(address sender);
    error CannotAttach();

    /// @param config Fixed for the life of the deployment, but for owner, guardian and operator.
    constructor(Config memory config)
        Holdings(config.token)
        Payers(config.maxFeeBasisPoints, config.noticePeriod)
        Payees(config.payeeDelay, config.disputeWindow)
        Roles(config.owner, config.operator, config.guardian)
    {
        if (config.hubId == 0) revert InvalidConfig();
        hubId = config.hubId;
        feeCollector = config.feeCollector;
        // The immutable is read through a local: constructors cannot read immutables of their own.
        commitments[0] = _domainSeparator(config.hubId);
    }

    // ---------------------------------------------------------------- settling

    /// @notice Settles one epoch: debits and credits are what the lines say, in full or not at all.
    /// @param epoch The last epoch + 1.
    /// @param previousCommitment The commitment of the last epoch.
    /// @param lines The payees: their number (2 bytes), then each (20), strictly ascending. Then groups: payer
    /// (20), number of its lines (2), then per line which payee (2, counted from 0) and amount (12). Payers
    /// ascend strictly, and so do the payees of each: there is one line per pair.
    /// @param claimsRoot Root over the claims that the epoch settles.
    /// @param allocationsRoot Root over what each claim adds to which line.
    /// @param bundleHash Name of the archived bundle with all of it.
    function settle(
        uint64 epoch,
        bytes32 previousCommitment,
        bytes calldata lines,
        bytes32 claimsRoot,
        bytes32 allocationsRoot,
        bytes32 bundleHash
    ) external {
        _requireSettling();
        _requireNext(epoch, previousCommitment);
        checkSolvency();
        _debitAndCredit(epoch, lines);
        bytes32 commitment = Epochs.commitment(
            Epochs.Header({
                epoch: epoch,
                previousCommitment: previousCommitment,
                linesHash: keccak256(lines),
                claimsRoot: claimsRoot,
                allocationsRoot: allocationsRoot,
                bundleHash: bundleHash
            })
        );
        commitments[epoch] = commitment;
        emit Settled(epoch, commitment, bundleHash);
    }

    /// @dev Reverts unless `epoch` follows the last one: the commitments are the count of epochs.
    function _requireNext(uint64 epoch, bytes32 previousCommitment) private view {
        if (commitments[epoch] != 0 || commitments[epoch - 1] == 0) {
            revert EpochOutOfOrder(epoch, _lastEpoch() + 1);
        }
        bytes32 expected = commitments[epoch - 1];
        if (previousCommitment != expected) revert PreviousCommitmentMismatch(previousCommitment, expected);
    }

    /// @dev Debits each payer once, by the sum of its group; then credits each payee once, by what all groups
    /// gave it: storage is touched per payer and per payee, never per line.
    function _debitAndCredit(uint64 epoch, bytes calldata lines) private {
        (uint256 count, uint256 offset) = Epochs.payeesOf(lines);
        uint256[] memory credits = new uint256[](count);
        uint256 feeIndex = _feeIndex(lines, count);
        address previous = address(0);
        while (offset < lines.length) {
            (address payer,, uint256 end) = Epochs.groupAt(lines, offset);
            if (payer <= previous) revert LinesNotAscending(offset);
            (uint256 debit, uint256 fee) =
                _addGroup(lines, offset + Epochs.GROUP_BYTES, end, credits, feeIndex);
            _debit(payer, debit, fee);
            previous = payer;
            offset = end;
        }
        _creditAll(epoch, lines, credits);
    }

    /// @dev Where the fee collector is among the payees; none of them when it gets nothing.
    function _feeIndex(bytes calldata lines, uint256 count) private view returns (uint256 index) {
        if (feeCollector == address(0)) return count;
        while (index < count && Epochs.payeeAt(lines, index) != feeCollector) {
            index++;
        }
    }

    /// @dev Adds the lines of one payer, from `offset` to `end`, to what their payees get.
    function _addGroup(
        bytes calldata lines,
        uint256 offset,
        uint256 end,
        uint256[] memory credits,
        uint256 feeIndex
    ) private pure returns (uint256 debit, uint256 fee) {
        uint256 next = 0;
        // No sum can overflow: there are fewer than 2**32 lines of less than 2**96 each.
        unchecked {
            for (; offset < end; offset += Epochs.LINE_BYTES) {
                (uint256 index, uint256 amount) = Epochs.lineAt(lines, offset);
                if (index < next) revert LinesNotAscending(offset);
                if (index >= credits.length) revert Epochs.MalformedLines(lines.length);
                if (amount == 0) revert ZeroAmount();
                credits[index] += amount;
                debit += amount;
                if (index == feeIndex) fee = amount;
                next = index + 1;
            }
        }
    }

    /// @dev Gives the payees, who ascend strictly, what they get: each more than nothing.
    function _creditAll(uint64 epoch, bytes calldata lines, uint256[] memory credits) private {
        uint32 window = _currentWindow();
        uint40 number = uint256(epoch).toUint40();
        address previous = address(0);
        for (uint256 i = 0; i < credits.length; i++) {
            address payee = Epochs.payeeAt(lines, i);
            if (payee <= previous) revert PayeesNotAscending(i);
            if (credits[i] == 0) revert ZeroAmount();
            _credit(payee, credits[i], window, number);
            previous = payee;
        }
    }

    // ---------------------------------------------------------------- the owner's, once each

    /// @notice Attaches the disputes module: once, and before the first epoch, so that whoever deposits or
    /// works afterwards knows who may freeze what, for good.
    function attachDisputes(address module) external onlyOwner {
        if (disputes != address(0) || commitments[1] != 0) revert CannotAttach();
        if (module.code.length == 0 || IDisputes(module).escrow() != address(this)) revert CannotAttach();
        disputes = module;
        emit DisputesAttached(module);
    }

    /// @notice Closes the escrow: deposits end now, settling after the notice period; then payers withdraw
    /// without notice. Final. Placements pin chain and escrow, so what runs is settled here before that.
    /// @param successor_ Where to go from here; zero names nowhere.
    function close(address successor_) external onlyOwner {
        State memory gate = _state();
        if (gate.closesAt != 0) revert Closed(gate.closesAt);
        gate.closesAt = (block.timestamp + noticePeriod).toUint40();
        _change(gate);
        successor = successor_;
        emit Closing(successor_, gate.closesAt);
    }

    // ---------------------------------------------------------------- the disputes module's

    modifier onlyDisputes() {
        if (msg.sender != disputes) revert NotDisputes(msg.sender);
        _;
    }

    /// @notice Takes `amount` out of what `epoch` credited to `payee`, while it rests.
    function freezeCredit(uint64 epoch, address payee, uint96 amount) external onlyDisputes {
        _takeResting(epoch, payee, amount);
        frozen += amount;
        emit CreditFrozen(epoch, payee, amount);
    }

    /// @notice Gives frozen credit back to the balance of the payer that it came from.
    function refundCredit(address payer, uint96 amount) external onlyDisputes {
        frozen -= amount;
        _refund(payer, amount);
        emit CreditRefunded(payer, amount);
    }

    /// @notice Gives frozen credit to its payee, as matured.
    function releaseCredit(address payee, uint96 amount) external onlyDisputes {
        frozen -= amount;
        _addMatured(payee, amount);
        emit CreditReleased(payee, amount);
    }

    // ---------------------------------------------------------------- views

    /// @notice The last settled epoch; 0 before the first.
    function lastEpoch() external view returns (uint64) {
        return _lastEpoch();
    }

    /// @dev Nothing counts epochs: settling would pay for it every time. Every epoch up to the last has a
    /// commitment and none after it has, so doubling and halving finds it.
    function _lastEpoch() internal view override returns (uint64) {
        uint64 none = 1;
        while (commitments[none] != 0) {
            none *= 2;
        }
        uint64 last = none / 2;
        while (none - last > 1) {
            uint64 middle = (last + none) / 2;
            if (commitments[middle] == 0) none = middle;
            else last = middle;
        }
        return last;
    }

    /// @notice The EIP-712 domain separator of everything that is signed for this escrow and hub.
    function domainSeparator() public view override returns (bytes32) {
        return _domainSeparator(hubId);
    }

    /// @notice The EIP-712 domain (ERC-5267), for wallets.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        return (hex"1f", "Fallow", "1", block.chainid, address(this), hubId, new uint256[](0));
    }

    function _domainSeparator(bytes32 salt) private view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH, keccak256("Fallow"), keccak256("1"), block.chainid, address(this), salt
            )
        );
    }
}
