// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Epochs} from "./Epochs.sol";
import {FallowEscrow} from "./FallowEscrow.sol";
import {Stakes} from "./disputes/Stakes.sol";
import {Holdings} from "./escrow/Holdings.sol";

/// @title Disputes about lines of a Fallow escrow, and the stakes behind them.
/// @notice A payer freezes its own line, or a part of it, while the credit rests; it needs no leaf for that, only
/// a bond. Then leaves have to be revealed that sum to the line: in time, or the frozen part is the payer's again
/// and the hub's stake is slashed. What is revealed goes to the arbiter, who names the claims to reject; its
/// silence releases everything. There is one dispute per line, and never more frozen and refunded than the line.
///
/// This contract holds bonds and stakes only. Credits stay in the escrow, which lets it move resting credits to
/// frozen, and frozen ones to the payer or the payee of their own line.
contract FallowDisputes is Stakes {
    using SafeCast for uint256;

    /// @dev What a deployment is made of; durations in seconds.
    struct Config {
        FallowEscrow escrow;
        address arbiter;
        address beneficiary;
        uint96 minimumBond;
        uint16 bondBasisPoints;
        uint32 revealPeriod;
        uint32 arbitrationPeriod;
        uint32 unbondingPeriod;
    }

    /// @dev Frozen: leaves are awaited. Revealed: the arbiter is. The others are final.
    enum Status {
        None,
        Frozen,
        Revealed,
        NotRevealed,
        Ruled,
        Released
    }

    /// @dev `frozen` counts what was ever frozen of the line, `refundedTwice` what a claim that was shown twice
    /// gave back outside of the dispute: together at most `amount`. `deadline` is of the present status.
    struct Dispute {
        address payer;
        uint96 amount;
        address payee;
        uint96 frozen;
        uint96 bond;
        uint96 revealed;
        uint40 deadline;
        Status status;
        bytes32 lastClaimId;
        uint96 refundedTwice;
    }

    /// @dev What `settle` was told: who owes whom how much.
    struct Line {
        address payer;
        address payee;
        uint96 amount;
    }

    /// @dev Where a claim id was revealed.
    struct Revelation {
        uint64 epoch;
        uint32 lineIndex;
        uint96 amount;
    }

    /// @dev A claim with its place in both trees of an epoch.
    struct Leaf {
        Epochs.Claim claim;
        bytes32[] claimProof;
        bytes32[] allocationProof;
    }

    uint256 private constant BASIS_POINTS = 10_000;

    /// @notice Seconds between the proposal of an arbiter and its earliest acceptance.
    uint256 public constant ARBITER_DELAY = 24 hours;

    /// @notice The escrow whose lines are disputed here.
    FallowEscrow public immutable escrow;
    /// @notice The least that a freeze costs, and its part of what is frozen in 1/10,000: the larger counts.
    uint96 public immutable minimumBond;
    uint16 public immutable bondBasisPoints;
    /// @notice Seconds from the first freeze of a line to the last reveal.
    uint32 public immutable revealPeriod;
    /// @notice Seconds from the last reveal to the last moment of a ruling.
    uint32 public immutable arbitrationPeriod;

    /// @notice Who rules.
    address public arbiter;
    /// @notice Who is to rule next, and from when on it can accept; zeros when nobody is.
    address public proposedArbiter;
    uint256 public arbiterAcceptableFrom;

    mapping(uint64 epoch => mapping(uint32 lineIndex => Dispute)) private _disputes;
    mapping(bytes32 claimId => Revelation) private _revelations;
    /// @dev What of a claim was given back already, by the epoch that it was paid in.
    mapping(bytes32 claimId => mapping(uint64 epoch => uint96)) private _refunded;
    /// @notice What has been slashed for a claim id so far: at most the claim.
    mapping(bytes32 claimId => uint96) public slashedFor;

    event LineFrozen(
        uint64 indexed epoch,
        uint32 indexed lineIndex,
        address indexed payer,
        uint96 amount,
        uint96 bond,
        uint40 revealUntil
    );
    event ClaimRevealed(
        uint64 indexed epoch, uint32 indexed lineIndex, bytes32 indexed claimId, uint256 amount
    );
    event LineRevealed(uint64 indexed epoch, uint32 indexed lineIndex, uint40 ruleUntil);
    event ClaimRejected(uint64 indexed epoch, uint32 indexed lineIndex, bytes32 indexed claimId);
    event Resolved(
        uint64 indexed epoch, uint32 indexed lineIndex, Status status, uint96 refunded, uint96 released
    );
    event ClaimShownTwice(bytes32 indexed claimId, uint64 indexed epoch, uint64 otherEpoch);
    event RefundedTwice(bytes32 indexed claimId, uint64 indexed epoch, uint96 amount);
    event ArbiterProposed(address indexed arbiter, uint256 acceptableFrom);
    event ArbiterChanged(address indexed previous, address indexed arbiter);

    error UnknownEpoch(uint64 epoch);
    error LinesMismatch();
    error NotThePayer(address sender, address payer);
    error NotTheArbiter(address sender);
    error NotTheOwner(address sender);
    error WrongStatus(Status status);
    error DeadlinePassed(uint256 deadline);
    error AboveLine(uint256 wanted, uint256 left);
    error ClaimsNotAscending(bytes32 claimId);
    error NotOfThisLine(bytes32 claimId);
    error NotInEpoch(bytes32 claimId);
    error AlreadyRevealed(bytes32 claimId);
    error AlreadyRefunded(bytes32 claimId);
    error NotTwice();

    constructor(Config memory config)
        Holdings(config.escrow.token())
        Stakes(config.unbondingPeriod, config.beneficiary)
    {
        if (config.arbiter == address(0)) revert ZeroAddress();
        uint256 longest =
            2 * uint256(config.escrow.disputeWindow()) + config.revealPeriod + config.arbitrationPeriod;
        if (
            config.minimumBond == 0 || config.bondBasisPoints > BASIS_POINTS || config.revealPeriod == 0
                || config.arbitrationPeriod == 0 || config.unbondingPeriod <= longest
                || config.beneficiary == config.arbiter
        ) revert InvalidConfig();
        escrow = config.escrow;
        arbiter = config.arbiter;
        minimumBond = config.minimumBond;
        bondBasisPoints = config.bondBasisPoints;
        revealPeriod = config.revealPeriod;
        arbitrationPeriod = config.arbitrationPeriod;
    }

    // ---------------------------------------------------------------- one dispute, in its order

    /// @notice Freezes `amount` of the caller's own line while its credit rests. Again for more, until revealed.
    /// @param header The epoch, as settled.
    /// @param lines Its packed lines, as given to `settle`.
    /// @param lineIndex The line, counted from 0 over all payers.
    function freeze(Epochs.Header calldata header, bytes calldata lines, uint32 lineIndex, uint96 amount)
        external
        nonReentrant
    {
        Line memory line = _lineOf(header, lines, lineIndex);
        if (msg.sender != line.payer) revert NotThePayer(msg.sender, line.payer);
        if (amount == 0) revert ZeroAmount();
        Dispute storage dispute = _disputes[header.epoch][lineIndex];
        if (dispute.status == Status.None) {
            (dispute.payer, dispute.payee, dispute.amount) = (line.payer, line.payee, line.amount);
            dispute.status = Status.Frozen;
            dispute.deadline = (block.timestamp + revealPeriod).toUint40();
        }
        _requireOpen(dispute, Status.Frozen);
        uint96 left = _left(dispute, line.amount);
        if (amount > left) revert AboveLine(amount, left);
        uint96 bond = bondFor(amount);
        dispute.frozen += amount;
        dispute.bond += bond;
        emit LineFrozen(header.epoch, lineIndex, line.payer, amount, bond, dispute.deadline);
        escrow.freezeCredit(header.epoch, line.payee, amount);
        _receive(bond);
    }

    /// @notice Reveals claims of a frozen line, ascending by claim id, in as many calls as it takes; they are
    /// complete when they sum to the line. By anyone: a proof stands by itself, and a payee need not lose its pay
    /// because the operator is silent.
    function reveal(Epochs.Header calldata header, uint32 lineIndex, Leaf[] calldata leaves) external {
        _requireSettled(header);
        Dispute storage dispute = _disputes[header.epoch][lineIndex];
        _requireOpen(dispute, Status.Frozen);
        uint256 sum = dispute.revealed;
        bytes32 last = dispute.lastClaimId;
        for (uint256 i = 0; i < leaves.length; i++) {
            Epochs.Claim calldata claim = leaves[i].claim;
            if (claim.claimId <= last) revert ClaimsNotAscending(claim.claimId);
            if (claim.payer != dispute.payer || claim.payee != dispute.payee) {
                revert NotOfThisLine(claim.claimId);
            }
            _requireIncluded(header, leaves[i], lineIndex);
            // At most the line from here on, so that no sum overflows.
            if (claim.amount > dispute.amount - sum) revert AboveLine(claim.amount, dispute.amount - sum);
            if (_revelations[claim.claimId].epoch != 0) revert AlreadyRevealed(claim.claimId);
            _revelations[claim.claimId] =
                Revelation({epoch: header.epoch, lineIndex: lineIndex, amount: claim.amount.toUint96()});
            sum += claim.amount;
            last = claim.claimId;
            emit ClaimRevealed(header.epoch, lineIndex, claim.claimId, claim.amount);
        }
        dispute.revealed = sum.toUint96();
        dispute.lastClaimId = last;
        if (sum == dispute.amount) {
            dispute.status = Status.Revealed;
            dispute.deadline = (block.timestamp + arbitrationPeriod).toUint40();
            emit LineRevealed(header.epoch, lineIndex, dispute.deadline);
        }
    }

    /// @notice The arbiter's ruling on a revealed line: `rejected` claims go back to the payer as far as they are
    /// frozen, and the payee's stake is slashed for each; the rest is released. With none rejected the payer was
    /// wrong, and its bond is lost.
    function rule(uint64 epoch, uint32 lineIndex, bytes32[] calldata rejected) external {
        if (msg.sender != arbiter) revert NotTheArbiter(msg.sender);
        Dispute storage dispute = _disputes[epoch][lineIndex];
        _requireOpen(dispute, Status.Revealed);
        uint96 sum = 0;
        for (uint256 i = 0; i < rejected.length; i++) {
            sum += _reject(dispute, epoch, lineIndex, rejected[i]);
        }
        uint96 refund = sum < dispute.frozen ? sum : dispute.frozen;
        _resolve(dispute, epoch, lineIndex, Status.Ruled, refund, rejected.length != 0);
    }

    /// @notice Ends a dispute whose deadline has passed, by anyone: what was not revealed is refunded, what was not
    /// ruled on is released. The bond comes back either way: nobody found the payer wrong.
    function conclude(uint64 epoch, uint32 lineIndex) external {
        Dispute storage dispute = _disputes[epoch][lineIndex];
        Status status = dispute.status;
        if (status != Status.Frozen && status != Status.Revealed) revert WrongStatus(status);
        if (block.timestamp <= dispute.deadline) revert TooEarly(uint256(dispute.deadline) + 1);
        if (status == Status.Revealed) {
            _resolve(dispute, epoch, lineIndex, Status.Released, 0, true);
            return;
        }
        bytes32 subject = keccak256(abi.encode(epoch, lineIndex));
        uint96 slashed = _slash(address(escrow), subject, dispute.frozen, Reason.LineNotRevealed);
        _forfeit(slashed, dispute.payer, dispute.payee);
        _resolve(dispute, epoch, lineIndex, Status.NotRevealed, dispute.frozen, true);
    }

    /// @dev Takes a claim that the arbiter rejects out of its line; returns what of it is not given back yet.
    function _reject(Dispute storage dispute, uint64 epoch, uint32 lineIndex, bytes32 claimId)
        private
        returns (uint96 amount)
    {
        Revelation memory revelation = _revelations[claimId];
        if (revelation.epoch != epoch || revelation.lineIndex != lineIndex) revert NotOfThisLine(claimId);
        uint96 before = _refunded[claimId][epoch];
        if (before >= revelation.amount) revert AlreadyRefunded(claimId);
        _refunded[claimId][epoch] = revelation.amount;
        amount = revelation.amount - before;
        uint96 slashed = _slashFor(claimId, dispute.payee, revelation.amount, Reason.ClaimRejected);
        _forfeit(slashed, dispute.payer, dispute.payee);
        emit ClaimRejected(epoch, lineIndex, claimId);
    }

    /// @dev Ends a dispute: `refund` of what is frozen to the payer, the rest to the payee.
    function _resolve(
        Dispute storage dispute,
        uint64 epoch,
        uint32 lineIndex,
        Status status,
        uint96 refund,
        bool bondReturns
    ) private {
        uint96 released = dispute.frozen - refund;
        uint96 bond = dispute.bond;
        dispute.status = status;
        dispute.bond = 0;
        if (bondReturns) collectable[dispute.payer] += bond;
        else _forfeit(bond, dispute.payer, dispute.payee);
        emit Resolved(epoch, lineIndex, status, refund, released);
        if (refund != 0) escrow.refundCredit(dispute.payer, refund);
        if (released != 0) escrow.releaseCredit(dispute.payee, released);
    }

    // ---------------------------------------------------------------- a claim paid twice

    /// @notice Shows, by anyone and at any time, that a claim id was paid twice: in two epochs, or by two leaves of
    /// one. The hub's stake is slashed by at most the claim, once per claim id. While the second payment rests, it
    /// goes back to its payer, as far as it is not frozen already.
    /// @param header The epoch of the payment to take back, with its `lines` and the `lineIndex` of the claim.
    /// @param leaf The claim in it.
    /// @param otherHeader The epoch of the other payment: not a later one.
    /// @param other The claim in that; its `allocationProof` is not looked at.
    function showTwice(
        Epochs.Header calldata header,
        Leaf calldata leaf,
        bytes calldata lines,
        uint32 lineIndex,
        Epochs.Header calldata otherHeader,
        Leaf calldata other
    ) external nonReentrant {
        if (other.claim.claimId != leaf.claim.claimId || otherHeader.epoch > header.epoch) revert NotTwice();
        Line memory line = _lineOf(header, lines, lineIndex);
        if (leaf.claim.payer != line.payer || leaf.claim.payee != line.payee) {
            revert NotOfThisLine(leaf.claim.claimId);
        }
        _requireSettled(otherHeader);
        if (_requireIncluded(header, leaf, lineIndex) == _requireClaim(otherHeader, other)) {
            revert NotTwice();
        }
        emit ClaimShownTwice(leaf.claim.claimId, header.epoch, otherHeader.epoch);
        _takeBack(header.epoch, lineIndex, leaf.claim, line);
    }

    /// @dev Slashes and refunds for a claim that `line` paid although it was paid before.
    function _takeBack(uint64 epoch, uint32 lineIndex, Epochs.Claim calldata claim, Line memory line)
        private
    {
        bytes32 claimId = claim.claimId;
        uint96 amount = (claim.amount < line.amount ? claim.amount : line.amount).toUint96();
        _forfeit(_slashFor(claimId, address(escrow), amount, Reason.ClaimTwice), line.payer, line.payee);
        if (!escrow.restsStill(epoch, line.payee)) return;
        Dispute storage dispute = _disputes[epoch][lineIndex];
        uint96 left = _left(dispute, line.amount);
        uint96 due = amount - _refunded[claimId][epoch];
        uint96 refund = due < left ? due : left;
        if (refund == 0) return;
        _refunded[claimId][epoch] += refund;
        dispute.refundedTwice += refund;
        emit RefundedTwice(claimId, epoch, refund);
        escrow.freezeCredit(epoch, line.payee, refund);
        escrow.refundCredit(line.payer, refund);
    }

    /// @dev At most the claim in all, however often and by whomever it is shown.
    function _slashFor(bytes32 claimId, address account, uint96 claimed, Reason reason)
        private
        returns (uint96 amount)
    {
        uint96 before = slashedFor[claimId];
        if (claimed <= before) return 0;
        amount = _slash(account, claimId, claimed - before, reason);
        slashedFor[claimId] = before + amount;
    }

    /// @dev What of a line of `amount` is neither frozen nor given back.
    function _left(Dispute storage dispute, uint96 amount) private view returns (uint96) {
        return amount - dispute.frozen - dispute.refundedTwice;
    }

    // ---------------------------------------------------------------- what has to hold

    function _requireSettled(Epochs.Header calldata header) private view {
        if (header.epoch == 0 || escrow.commitments(header.epoch) != Epochs.commitment(header)) {
            revert UnknownEpoch(header.epoch);
        }
    }

    function _lineOf(Epochs.Header calldata header, bytes calldata lines, uint32 lineIndex)
        private
        view
        returns (Line memory line)
    {
        _requireSettled(header);
        if (keccak256(lines) != header.linesHash) revert LinesMismatch();
        (line.payer, line.payee, line.amount) = Epochs.line(lines, lineIndex);
    }

    function _requireClaim(Epochs.Header calldata header, Leaf calldata leaf)
        private
        view
        returns (bytes32 hash)
    {
        hash = Epochs.claimLeaf(leaf.claim, address(escrow), header.epoch);
        if (!MerkleProof.verifyCalldata(leaf.claimProof, header.claimsRoot, hash)) {
            revert NotInEpoch(leaf.claim.claimId);
        }
    }

    /// @dev In the claims, and allocated to this line; returns the claim's leaf.
    function _requireIncluded(Epochs.Header calldata header, Leaf calldata leaf, uint32 lineIndex)
        private
        view
        returns (bytes32 hash)
    {
        hash = _requireClaim(header, leaf);
        bytes32 part = Epochs.allocationLeaf(leaf.claim, address(escrow), header.epoch, lineIndex);
        if (!MerkleProof.verifyCalldata(leaf.allocationProof, header.allocationsRoot, part)) {
            revert NotInEpoch(leaf.claim.claimId);
        }
    }

    function _requireOpen(Dispute storage dispute, Status status) private view {
        if (dispute.status != status) revert WrongStatus(dispute.status);
        if (block.timestamp > dispute.deadline) revert DeadlinePassed(dispute.deadline);
    }

    // ---------------------------------------------------------------- roles

    /// @dev The hub's stake is the escrow owner's to ask back, whoever that is by then.
    function _controllerOf(address account) internal view override returns (address) {
        return account == address(escrow) ? escrow.owner() : account;
    }

    /// @dev The hub is a party of every dispute: its stake must not come back to it by this way.
    function _isHub(address account) internal view override returns (bool) {
        return account == escrow.operator() || account == escrow.owner();
    }

    /// @notice Proposes another arbiter, who can accept after 24 hours. The escrow owner's.
    function proposeArbiter(address next) external {
        if (msg.sender != escrow.owner()) revert NotTheOwner(msg.sender);
        if (next == beneficiary && next != address(0)) revert InvalidConfig();
        proposedArbiter = next;
        arbiterAcceptableFrom = next == address(0) ? 0 : block.timestamp + ARBITER_DELAY;
        emit ArbiterProposed(next, arbiterAcceptableFrom);
    }

    /// @notice Makes the caller, who was proposed, the arbiter.
    function acceptArbiter() external {
        if (msg.sender != proposedArbiter) revert NotProposed(msg.sender);
        if (block.timestamp < arbiterAcceptableFrom) revert TooEarly(arbiterAcceptableFrom);
        emit ArbiterChanged(arbiter, msg.sender);
        arbiter = msg.sender;
        proposedArbiter = address(0);
        arbiterAcceptableFrom = 0;
    }

    // ---------------------------------------------------------------- views

    /// @notice The bond that freezing `amount` costs, in the token's smallest unit.
    function bondFor(uint96 amount) public view returns (uint96) {
        uint256 part = uint256(amount) * bondBasisPoints / BASIS_POINTS;
        return part < minimumBond ? minimumBond : part.toUint96();
    }

    /// @notice The dispute about a line; all zeros when there never was one.
    function disputeOf(uint64 epoch, uint32 lineIndex) external view returns (Dispute memory) {
        return _disputes[epoch][lineIndex];
    }

    /// @notice Where a claim id was revealed; zeros when nowhere.
    function revelationOf(bytes32 claimId) external view returns (Revelation memory) {
        return _revelations[claimId];
    }
}
