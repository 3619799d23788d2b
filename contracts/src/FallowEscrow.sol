// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

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
contract FallowEscrow is Ownable2Step, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
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

    /// @dev One slot: settling touches a payer once per epoch. `cap` 0 means never bound.
    struct Payer {
        uint96 balance;
        uint96 cap;
        uint40 lastDebitAt;
        uint24 minInterval;
    }

    /// @dev One slot, touched by every credit: what was credited in `window`. `activeFrom` 0 means
    /// never registered.
    struct Payee {
        uint96 current;
        uint32 window;
        uint40 activeFrom;
    }

    /// @dev Touched only when the window has changed since: `resting` was credited in the window before
    /// the payee's `window`, `matured` earlier.
    struct Aged {
        uint128 resting;
        uint128 matured;
    }

    /// @dev An announced withdrawal.
    struct Notice {
        uint96 amount;
        uint40 maturesAt;
    }

    /// @dev An announced stricter binding.
    struct BindingNotice {
        uint96 cap;
        uint24 minInterval;
        uint40 maturesAt;
    }

    /// @dev One slot: what settling checks before anything else.
    struct Head {
        address operator;
        uint64 lastEpoch;
        bool paused;
    }

    uint256 private constant GROUP_BYTES = 22;
    uint256 private constant LINE_BYTES = 32;
    uint256 private constant BASIS_POINTS = 10_000;

    /// @notice How long a matured notice can be executed before it expires, in seconds.
    uint256 public constant NOTICE_VALIDITY = 24 hours;

    bytes32 private constant DOMAIN_TYPEHASH = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
    );
    bytes32 private constant SETTLEMENT_TYPEHASH = keccak256(
        "Settlement(uint64 epoch,bytes32 previousCommitment,bytes32 linesHash,bytes32 claimsRoot,"
        "bytes32 allocationsRoot,bytes32 bundleHash)"
    );
    bytes32 private constant REGISTRATION_TYPEHASH =
        keccak256("PayeeRegistration(address payee,uint64 deadline)");

    /// @notice The one token held here.
    IERC20 public immutable token;
    /// @notice The hub whose epochs are settled here; the salt of the EIP-712 domain.
    bytes32 public immutable hubId;
    /// @notice The payee that fees are paid to, as ordinary lines; zero when there are none.
    address public immutable feeCollector;
    /// @notice Largest part of a payer's debit that may go to the fee collector, in 1/10,000.
    uint16 public immutable maxFeeBasisPoints;
    /// @notice Seconds between a payer's notice and the withdrawal or stricter binding.
    uint32 public immutable noticePeriod;
    /// @notice Seconds between a payee's registration and its first possible credit.
    uint32 public immutable payeeDelay;
    /// @notice Seconds that a credit rests at least (at most twice that) before it can be withdrawn.
    uint32 public immutable disputeWindow;

    /// @notice Who may pause.
    address public guardian;
    /// @notice What payers and payees are owed together, in the token's smallest unit.
    uint128 public liabilities;

    Head private _head;
    mapping(address payer => Payer) private _payers;
    mapping(address payee => Payee) private _payees;
    mapping(address payee => Aged) private _aged;
    mapping(address payer => Notice) private _notices;
    mapping(address payer => BindingNotice) private _bindingNotices;

    /// @notice The commitment of each settled epoch; of epoch 0 the domain separator.
    mapping(uint64 epoch => bytes32) public commitments;

    event Deposited(address indexed payer, address indexed from, uint256 amount);
    event Bound(address indexed payer, uint96 cap, uint24 minInterval);
    event BindingNoticeGiven(address indexed payer, uint96 cap, uint24 minInterval, uint40 maturesAt);
    event WithdrawalNoticeGiven(address indexed payer, uint96 amount, uint40 maturesAt);
    event Withdrawn(address indexed payer, uint256 amount);
    event PayeeRegistered(address indexed payee, uint40 activeFrom);
    event CreditsWithdrawn(address indexed payee, uint256 amount);
    event Settled(uint64 indexed epoch, bytes32 indexed commitment, bytes32 bundleHash, uint256 total);
    event PausedChanged(bool paused);
    event GuardianChanged(address guardian);

    error ZeroAddress();
    error InvalidConfig();
    error NotOperator(address sender);
    error NotGuardian(address sender);
    error SettlingPaused();
    error EpochOutOfOrder(uint64 given, uint64 expected);
    error PreviousCommitmentMismatch(bytes32 given, bytes32 expected);
    error MalformedLines(uint256 length);
    error LinesNotAscending(uint256 offset);
    error ZeroAmount();
    error PayerNotBound(address payer);
    error CapExceeded(address payer, uint256 debit, uint256 cap);
    error DebitTooSoon(address payer, uint256 notBefore);
    error InsufficientBalance(address payer, uint256 debit, uint256 balance);
    error PayeeNotActive(address payee);
    error PayeeAlreadyRegistered(address payee);
    error RegistrationExpired(uint64 deadline);
    error InvalidSignature(address signer);
    error FeeTooHigh(address payer, uint256 fee, uint256 debit);
    error StricterBindingNeedsNotice();
    error NoNotice(address payer);
    error NoticeNotMature(uint256 maturesAt);
    error NoticeExpired(uint256 expiredAt);
    error NothingToWithdraw(address account);
    error DepositNotExact(uint256 received, uint256 wanted);
    error Insolvent(uint256 balance, uint256 liabilities);

    /// @param config Fixed for the life of the deployment, but for owner, guardian and operator.
    constructor(Config memory config) Ownable(config.owner) {
        if (config.operator == address(0) || config.guardian == address(0)) revert ZeroAddress();
        if (
            address(config.token).code.length == 0 || config.hubId == 0 || config.disputeWindow == 0
                || config.maxFeeBasisPoints > BASIS_POINTS
        ) revert InvalidConfig();
        token = config.token;
        hubId = config.hubId;
        feeCollector = config.feeCollector;
        maxFeeBasisPoints = config.maxFeeBasisPoints;
        noticePeriod = config.noticePeriod;
        payeeDelay = config.payeeDelay;
        disputeWindow = config.disputeWindow;
        guardian = config.guardian;
        _head.operator = config.operator;
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
        Head memory head = _head;
        if (msg.sender != head.operator) revert NotOperator(msg.sender);
        if (head.paused) revert SettlingPaused();
        if (epoch != head.lastEpoch + 1) revert EpochOutOfOrder(epoch, head.lastEpoch + 1);
        bytes32 expected = commitments[head.lastEpoch];
        if (previousCommitment != expected) revert PreviousCommitmentMismatch(previousCommitment, expected);
        checkSolvency();

        uint256 total = _debitAndCredit(lines);

        bytes32 commitment = keccak256(
            abi.encode(
                SETTLEMENT_TYPEHASH,
                epoch,
                previousCommitment,
                keccak256(lines),
                claimsRoot,
                allocationsRoot,
                bundleHash
            )
        );
        commitments[epoch] = commitment;
        _head.lastEpoch = epoch;
        emit Settled(epoch, commitment, bundleHash, total);
    }

    /// @dev Walks the groups. A payer is debited once, after the payees of its group are credited.
    function _debitAndCredit(bytes calldata lines) private returns (uint256 total) {
        uint256 length = lines.length;
        uint32 window = _currentWindow();
        address previous;
        uint256 offset;
        if (length == 0) revert MalformedLines(length);
        while (offset < length) {
            if (offset + GROUP_BYTES > length) revert MalformedLines(length);
            uint256 head = _wordAt(lines, offset);
            // Each cast below cuts the one field out of the word.
            // forge-lint: disable-next-line(unsafe-typecast)
            address payer = address(uint160(head >> 96));
            // forge-lint: disable-next-line(unsafe-typecast)
            uint256 end = offset + GROUP_BYTES + uint16(head >> 80) * LINE_BYTES;
            if (payer <= previous) revert LinesNotAscending(offset);
            if (end > length || end == offset + GROUP_BYTES) revert MalformedLines(length);
            (uint256 debit, uint256 fee) = _creditGroup(lines, offset + GROUP_BYTES, end, window);
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
        address previous;
        // Neither sum can overflow: fewer than 2**16 lines of less than 2**96 each.
        unchecked {
            for (; offset < end; offset += LINE_BYTES) {
                uint256 line = _wordAt(lines, offset);
                // The word's upper 20 bytes.
                // forge-lint: disable-next-line(unsafe-typecast)
                address payee = address(uint160(line >> 96));
                uint256 amount = line & type(uint96).max;
                if (payee <= previous) revert LinesNotAscending(offset);
                if (amount == 0) revert ZeroAmount();
                _credit(payee, amount, window);
                debit += amount;
                if (payee == feeCollector) fee += amount;
                previous = payee;
            }
        }
    }

    /// @dev The 32 bytes at `offset`; beyond the end of calldata they are zeros, so callers check lengths.
    function _wordAt(bytes calldata data, uint256 offset) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, offset))
        }
    }

    function _debit(address account, uint256 debit, uint256 fee) private {
        Payer memory payer = _payers[account];
        if (payer.cap == 0) revert PayerNotBound(account);
        if (debit > payer.cap) revert CapExceeded(account, debit, payer.cap);
        uint256 notBefore = uint256(payer.lastDebitAt) + payer.minInterval;
        if (block.timestamp < notBefore) revert DebitTooSoon(account, notBefore);
        if (debit > payer.balance) revert InsufficientBalance(account, debit, payer.balance);
        if (fee * BASIS_POINTS > debit * maxFeeBasisPoints) revert FeeTooHigh(account, fee, debit);
        payer.balance = (payer.balance - debit).toUint96();
        payer.lastDebitAt = block.timestamp.toUint40();
        _payers[account] = payer;
    }

    function _credit(address account, uint256 amount, uint32 window) private {
        Payee memory payee = _payees[account];
        if (payee.activeFrom == 0 || block.timestamp < payee.activeFrom) revert PayeeNotActive(account);
        if (payee.window != window) _rotate(account, payee, window);
        payee.current = (payee.current + amount).toUint96();
        _payees[account] = payee;
    }

    /// @dev Ages a payee's credits to `window`: what is two windows old has matured. The caller stores
    /// `payee`.
    function _rotate(address account, Payee memory payee, uint32 window) private {
        Aged storage aged = _aged[account];
        if (window - payee.window == 1) {
            aged.matured += aged.resting;
            aged.resting = payee.current;
        } else {
            aged.matured += aged.resting + payee.current;
            aged.resting = 0;
        }
        payee.current = 0;
        payee.window = window;
    }

    function _currentWindow() private view returns (uint32) {
        return (block.timestamp / disputeWindow).toUint32();
    }

    // ---------------------------------------------------------------- payers

    /// @notice Adds `amount` of the caller's tokens to `payer`'s balance. Needs an allowance.
    function deposit(address payer, uint96 amount) external nonReentrant {
        _deposit(payer, amount);
    }

    /// @notice As `deposit`, with the allowance given by signature.
    /// @dev A permit that someone else has already used must not stop the deposit.
    function depositWithPermit(address payer, uint96 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        try IERC20Permit(address(token)).permit(msg.sender, address(this), amount, deadline, v, r, s) {}
            catch {}
        _deposit(payer, amount);
    }

    /// @dev Counts only when the balance rose by exactly `amount`: no fee-on-transfer tokens.
    function _deposit(address payer, uint96 amount) private {
        if (payer == address(0)) revert ZeroAddress();
        if (amount == 0) revert ZeroAmount();
        checkSolvency();
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert DepositNotExact(received, amount);
        _payers[payer].balance += amount;
        liabilities += amount;
        emit Deposited(payer, msg.sender, amount);
    }

    /// @notice Lets this hub debit the caller by at most `cap` at a time and once per `minInterval` seconds.
    /// The first time, or when neither gets stricter, at once; else `giveBindingNotice` is the way.
    function bind(uint96 cap, uint24 minInterval) external {
        if (cap == 0) revert ZeroAmount();
        Payer storage payer = _payers[msg.sender];
        if (payer.cap != 0 && (cap < payer.cap || minInterval > payer.minInterval)) {
            revert StricterBindingNeedsNotice();
        }
        _setBinding(payer, cap, minInterval);
    }

    /// @notice Announces a stricter binding; cap 0 revokes it. Replaces an earlier such notice.
    function giveBindingNotice(uint96 cap, uint24 minInterval) external {
        uint40 maturesAt = _maturity();
        _bindingNotices[msg.sender] =
            BindingNotice({cap: cap, minInterval: minInterval, maturesAt: maturesAt});
        emit BindingNoticeGiven(msg.sender, cap, minInterval, maturesAt);
    }

    /// @notice Makes the announced binding effective, within 24 hours of its maturity.
    function applyBindingNotice() external {
        BindingNotice memory notice = _bindingNotices[msg.sender];
        _requireMature(notice.maturesAt);
        delete _bindingNotices[msg.sender];
        _setBinding(_payers[msg.sender], notice.cap, notice.minInterval);
    }

    function _setBinding(Payer storage payer, uint96 cap, uint24 minInterval) private {
        payer.cap = cap;
        payer.minInterval = minInterval;
        emit Bound(msg.sender, cap, minInterval);
    }

    /// @notice Announces that the caller will withdraw `amount`. It stays debitable until withdrawn.
    /// Replaces an earlier notice, whose time is lost; 0 cancels it.
    function giveWithdrawalNotice(uint96 amount) external {
        uint40 maturesAt = amount == 0 ? 0 : _maturity();
        _notices[msg.sender] = Notice({amount: amount, maturesAt: maturesAt});
        emit WithdrawalNoticeGiven(msg.sender, amount, maturesAt);
    }

    /// @notice Pays the announced amount, or what is left of it, to the caller, within 24 hours of maturity.
    function withdraw() external nonReentrant {
        Notice memory notice = _notices[msg.sender];
        _requireMature(notice.maturesAt);
        delete _notices[msg.sender];
        Payer storage payer = _payers[msg.sender];
        uint96 amount = notice.amount < payer.balance ? notice.amount : payer.balance;
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        payer.balance -= amount;
        liabilities -= amount;
        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    function _maturity() private view returns (uint40) {
        return (block.timestamp + noticePeriod).toUint40();
    }

    function _requireMature(uint256 maturesAt) private view {
        if (maturesAt == 0) revert NoNotice(msg.sender);
        if (block.timestamp < maturesAt) revert NoticeNotMature(maturesAt);
        if (block.timestamp > maturesAt + NOTICE_VALIDITY) revert NoticeExpired(maturesAt + NOTICE_VALIDITY);
    }

    // ---------------------------------------------------------------- payees

    /// @notice Registers `payee` by its own signature (also EIP-1271); anyone may send it.
    /// @param deadline Unix seconds up to which the signature is taken.
    function registerPayee(address payee, uint64 deadline, bytes calldata signature) external {
        if (block.timestamp > deadline) revert RegistrationExpired(deadline);
        if (_payees[payee].activeFrom != 0) revert PayeeAlreadyRegistered(payee);
        bytes32 structHash = keccak256(abi.encode(REGISTRATION_TYPEHASH, payee, deadline));
        bytes32 digest = MessageHashUtils.toTypedDataHash(_domainSeparator(hubId), structHash);
        if (!SignatureChecker.isValidSignatureNow(payee, digest, signature)) revert InvalidSignature(payee);
        uint40 activeFrom = (block.timestamp + payeeDelay).toUint40();
        _payees[payee].activeFrom = activeFrom;
        emit PayeeRegistered(payee, activeFrom);
    }

    /// @notice Pays all matured credits of the caller to the caller.
    function withdrawCredits() external nonReentrant {
        Payee memory payee = _payees[msg.sender];
        uint32 window = _currentWindow();
        if (payee.window != window) {
            _rotate(msg.sender, payee, window);
            _payees[msg.sender] = payee;
        }
        Aged storage aged = _aged[msg.sender];
        uint128 amount = aged.matured;
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        aged.matured = 0;
        liabilities -= amount;
        emit CreditsWithdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    // ---------------------------------------------------------------- pause and roles

    /// @notice Stops settling at once. The guardian's or the owner's.
    function pause() external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotGuardian(msg.sender);
        _head.paused = true;
        emit PausedChanged(true);
    }

    /// @notice Lets settling go on. The owner's only: a stolen guardian key can stop, never start.
    function unpause() external onlyOwner {
        _head.paused = false;
        emit PausedChanged(false);
    }

    /// @notice Names another guardian.
    function setGuardian(address newGuardian) external onlyOwner {
        if (newGuardian == address(0)) revert ZeroAddress();
        guardian = newGuardian;
        emit GuardianChanged(newGuardian);
    }

    // ---------------------------------------------------------------- views

    /// @notice Reverts unless the tokens held cover everything owed. Gates settling and deposits only.
    function checkSolvency() public view {
        uint256 balance = token.balanceOf(address(this));
        uint256 owed = liabilities;
        if (balance < owed) revert Insolvent(balance, owed);
    }

    /// @notice The last settled epoch; 0 before the first.
    function lastEpoch() external view returns (uint64) {
        return _head.lastEpoch;
    }

    /// @notice Who may settle.
    function operator() external view returns (address) {
        return _head.operator;
    }

    /// @notice Whether settling is stopped.
    function paused() external view returns (bool) {
        return _head.paused;
    }

    /// @notice Balance and binding of a payer.
    function payerOf(address account) external view returns (Payer memory) {
        return _payers[account];
    }

    /// @notice The withdrawal that a payer has announced; expired ones count as none.
    function noticeOf(address account) external view returns (Notice memory notice) {
        notice = _notices[account];
        if (block.timestamp > notice.maturesAt + NOTICE_VALIDITY) return Notice({amount: 0, maturesAt: 0});
    }

    /// @notice The stricter binding that a payer has announced; expired ones count as none.
    function bindingNoticeOf(address account) external view returns (BindingNotice memory notice) {
        notice = _bindingNotices[account];
        if (block.timestamp > notice.maturesAt + NOTICE_VALIDITY) {
            return BindingNotice({cap: 0, minInterval: 0, maturesAt: 0});
        }
    }

    /// @notice From when on a payee can be credited, in Unix seconds; 0 when it is not registered.
    function payeeActiveFrom(address account) external view returns (uint40) {
        return _payees[account].activeFrom;
    }

    /// @notice What a payee is owed, and the part of it that it could withdraw now.
    function creditsOf(address account) external view returns (uint256 owed, uint256 withdrawable) {
        Payee memory payee = _payees[account];
        Aged memory aged = _aged[account];
        uint256 age = _currentWindow() - payee.window;
        owed = uint256(payee.current) + aged.resting + aged.matured;
        withdrawable = aged.matured;
        if (age >= 1) withdrawable += aged.resting;
        if (age >= 2) withdrawable += payee.current;
    }

    /// @notice The EIP-712 domain separator of everything that is signed for this escrow and hub.
    function domainSeparator() external view returns (bytes32) {
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
