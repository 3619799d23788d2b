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

    event Settled(uint64 indexed epoch, bytes32 indexed commitment, bytes32 bundleHash, uint256 total);
    event DisputesAttached(address disputes);
    event CreditFrozen(uint64 indexed epoch, address indexed payee, uint256 amount);
    event CreditRefunded(address indexed payer, uint256 amount);
    event CreditReleased(address indexed payee, uint256 amount);
    event Closing(address successor, uint256 closesAt);

    error EpochOutOfOrder(uint64 given, uint64 expected);
    error PreviousCommitmentMismatch(bytes32 given, bytes32 expected);
    error LinesNotAscending(uint256 offset);
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
    /// @param lines Packed groups: payer (20 bytes), number of lines (2), then per line payee (20) and amount
    /// (12). Payers ascend strictly, and so do the payees of each: there is one line per pair.
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
        _advance(epoch, previousCommitment);
        checkSolvency();
        uint256 total = _debitAndCredit(lines);
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
        emit Settled(epoch, commitment, bundleHash, total);
    }

    /// @dev Whether this epoch may be settled now, by this sender; then it is the last one.
    function _advance(uint64 epoch, bytes32 previousCommitment) private {
        Head memory head = _head;
        if (msg.sender != head.operator) revert NotOperator(msg.sender);
        if (head.paused) revert SettlingPaused();
        if (_closed()) revert Closed(closesAt);
        if (epoch != head.lastEpoch + 1) revert EpochOutOfOrder(epoch, head.lastEpoch + 1);
        bytes32 expected = commitments[head.lastEpoch];
        if (previousCommitment != expected) revert PreviousCommitmentMismatch(previousCommitment, expected);
        uint32 window = _currentWindow();
        if (window != head.window) {
            _head.window = window;
            _openWindow(window, epoch);
        }
        _head.lastEpoch = uint256(epoch).toUint40();
    }

    /// @dev Walks the groups. A payer is debited once, after the payees of its group are credited.
    function _debitAndCredit(bytes calldata lines) private returns (uint256 total) {
        uint32 window = _currentWindow();
        address previous = address(0);
        uint256 offset = 0;
        if (lines.length == 0) revert Epochs.MalformedLines(0);
        while (offset < lines.length) {
            (address payer,, uint256 end) = Epochs.groupAt(lines, offset);
            if (payer <= previous) revert LinesNotAscending(offset);
            (uint256 debit, uint256 fee) = _creditGroup(lines, offset + Epochs.GROUP_BYTES, end, window);
            _debit(payer, debit, fee);
            total += debit;
            previous = payer;
            offset = end;
        }
    }

    /// @dev The lines of one payer, from `offset` to `end`.
    function _creditGroup(bytes calldata lines, uint256 offset, uint256 end, uint32 window)
        private
        returns (uint256 debit, uint256 fee)
    {
        uint256 previous = 0;
        // Neither sum can overflow: fewer than 2**16 lines of less than 2**96 each.
        unchecked {
            for (; offset < end; offset += Epochs.LINE_BYTES) {
                uint256 line = Epochs.wordAt(lines, offset);
                uint256 payee = line >> 96;
                uint256 amount = line & type(uint96).max;
                if (payee <= previous) revert LinesNotAscending(offset);
                if (amount == 0) revert ZeroAmount();
                // The shift has left the 160 bits of an address.
                // forge-lint: disable-next-line(unsafe-typecast)
                _credit(address(uint160(payee)), amount, window);
                debit += amount;
                if (payee == uint160(feeCollector)) fee = amount;
                previous = payee;
            }
        }
    }

    // ---------------------------------------------------------------- the owner's, once each

    /// @notice Attaches the disputes module: once, and before the first epoch, so that whoever deposits or
    /// works afterwards knows who may freeze what, for good.
    function attachDisputes(address module) external onlyOwner {
        if (disputes != address(0) || _head.lastEpoch != 0) revert CannotAttach();
        if (module.code.length == 0 || IDisputes(module).escrow() != address(this)) revert CannotAttach();
        disputes = module;
        emit DisputesAttached(module);
    }

    /// @notice Closes the escrow: deposits end now, settling after the notice period; then payers withdraw
    /// without notice. Final. Placements pin chain and escrow, so what runs is settled here before that.
    /// @param successor_ Where to go from here; zero names nowhere.
    function close(address successor_) external onlyOwner {
        if (closesAt != 0) revert Closed(closesAt);
        closesAt = (block.timestamp + noticePeriod).toUint40();
        successor = successor_;
        emit Closing(successor_, closesAt);
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

    function _lastEpoch() internal view override returns (uint64) {
        return _head.lastEpoch;
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
