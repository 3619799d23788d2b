// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Holdings} from "./Holdings.sol";

/// @title Payees: who may be paid, credits that rest in rotating windows, and where they are paid to.
/// @notice Time is cut into windows of `disputeWindow` seconds. What is credited in one window rests through the
/// next and has matured in the one after: at least one window, at most two. While it rests, a dispute can
/// freeze it.
abstract contract Payees is Holdings {
    using SafeCast for uint256;

    /// @dev What was credited in `window`. `activeFrom` 0 means never registered. `window` is the current one
    /// only after `_rotated` has found the payee to be active. `first` is the first epoch that credited it in
    /// `window`, `firstBefore` in the window before; 0 where none did.
    struct Payee {
        uint96 current;
        uint32 window;
        uint40 activeFrom;
        uint40 first;
        uint40 firstBefore;
    }

    /// @dev A Payee in one word, which settling reads and writes once: current in its lowest 96 bits, then the
    /// others in their order. (A struct in storage would be read and written field by field.)
    struct PackedPayee {
        uint256 word;
    }

    /// @dev One slot, touched when the window has changed: `resting` was credited in the window before
    /// `window` (always the payee's own), `matured` earlier. `redirected` is set once a payout address was.
    struct Aged {
        uint96 resting;
        uint96 matured;
        uint32 window;
        bool redirected;
    }

    /// @dev Credits are paid to `next` from `nextFrom` on, to `to` until then; zero means the payee itself.
    struct Payout {
        address to;
        address next;
        uint40 nextFrom;
    }

    /// @dev Epochs (both inclusive) whose receipts a signer may sign. `from` 0 means never registered.
    struct Signer {
        uint64 from;
        uint64 until;
    }

    bytes32 private constant REGISTRATION_TYPEHASH =
        keccak256("PayeeRegistration(address payee,uint64 deadline)");

    uint256 private constant WINDOW_SHIFT = 96;
    uint256 private constant ACTIVE_FROM_SHIFT = 128;
    uint256 private constant FIRST_SHIFT = 168;
    uint256 private constant FIRST_BEFORE_SHIFT = 208;

    /// @notice Seconds between the change of a payout address and its effect.
    uint256 public constant PAYOUT_DELAY = 24 hours;

    /// @notice Seconds between a payee's registration and its first possible credit.
    uint32 public immutable payeeDelay;
    /// @notice Seconds that a credit rests at least (at most twice that) before it can be withdrawn.
    uint32 public immutable disputeWindow;

    mapping(address payee => PackedPayee) private _payees;
    mapping(address payee => Aged) private _aged;
    mapping(address payee => Payout) private _payouts;
    mapping(address payee => mapping(address signer => Signer)) private _signers;

    event PayeeRegistered(address indexed payee, uint40 activeFrom);
    event PayoutChanging(address indexed payee, address to, uint256 effectiveAt);
    event SignerSet(address indexed payee, address indexed signer, uint64 fromEpoch, uint64 untilEpoch);
    event CreditsWithdrawn(address indexed payee, uint256 amount);

    error PayeeNotActive(address payee);
    error PayeeNotRegistered(address payee);
    error PayeeAlreadyRegistered(address payee);
    error RegistrationExpired(uint64 deadline);
    error InvalidSignature(address signer);
    error SignerAlreadyRegistered(address signer);
    error SignerNotValid(address signer);
    error EpochsNotAhead(uint64 untilEpoch);
    error DisputeWindowOver(uint64 epoch);

    constructor(uint32 payeeDelay_, uint32 disputeWindow_) {
        if (disputeWindow_ == 0) revert InvalidConfig();
        payeeDelay = payeeDelay_;
        disputeWindow = disputeWindow_;
    }

    /// @dev The last settled epoch.
    function _lastEpoch() internal view virtual returns (uint64);

    /// @notice The EIP-712 domain separator of everything that is signed for this escrow and hub.
    function domainSeparator() public view virtual returns (bytes32);

    // ---------------------------------------------------------------- the registry

    /// @notice Registers `payee` by its own signature (also EIP-1271); anyone may send it.
    /// @param deadline Unix seconds up to which the signature is taken.
    function registerPayee(address payee, uint64 deadline, bytes calldata signature) external {
        if (block.timestamp > deadline) revert RegistrationExpired(deadline);
        if (_payee(payee).activeFrom != 0) revert PayeeAlreadyRegistered(payee);
        bytes32 structHash = keccak256(abi.encode(REGISTRATION_TYPEHASH, payee, deadline));
        bytes32 digest = MessageHashUtils.toTypedDataHash(domainSeparator(), structHash);
        if (!SignatureChecker.isValidSignatureNow(payee, digest, signature)) revert InvalidSignature(payee);
        uint40 activeFrom = (block.timestamp + payeeDelay).toUint40();
        // The window before: the first credit has to pass through `_rotated`.
        uint32 window = _currentWindow() - 1;
        _store(payee, Payee({current: 0, window: window, activeFrom: activeFrom, first: 0, firstBefore: 0}));
        _aged[payee] = Aged({resting: 0, matured: 0, window: window, redirected: false});
        emit PayeeRegistered(payee, activeFrom);
    }

    /// @notice Has the caller's credits paid to `to`, from 24 hours on. Replaces a change that is under way.
    function setPayout(address to) external {
        _requireRegistered();
        if (to == address(0)) revert ZeroAddress();
        Payout storage payout = _payouts[msg.sender];
        payout.to = payoutOf(msg.sender);
        payout.next = to;
        payout.nextFrom = (block.timestamp + PAYOUT_DELAY).toUint40();
        _aged[msg.sender].redirected = true;
        emit PayoutChanging(msg.sender, to, payout.nextFrom);
    }

    /// @notice Lets `signer` sign the caller's receipts from the next epoch to `untilEpoch`. Once per signer: what
    /// was valid for an epoch stays so for whoever verifies it later.
    function addSigner(address signer, uint64 untilEpoch) external {
        _requireRegistered();
        if (signer == address(0)) revert ZeroAddress();
        if (_signers[msg.sender][signer].from != 0) revert SignerAlreadyRegistered(signer);
        uint64 fromEpoch = _lastEpoch() + 1;
        if (untilEpoch < fromEpoch) revert EpochsNotAhead(untilEpoch);
        _signers[msg.sender][signer] = Signer({from: fromEpoch, until: untilEpoch});
        emit SignerSet(msg.sender, signer, fromEpoch, untilEpoch);
    }

    /// @notice Ends a signer earlier: after `untilEpoch`, which is the last settled epoch or later.
    function endSigner(address signer, uint64 untilEpoch) external {
        Signer storage given = _signers[msg.sender][signer];
        if (untilEpoch >= given.until) revert SignerNotValid(signer);
        if (untilEpoch < _lastEpoch()) revert EpochsNotAhead(untilEpoch);
        given.until = untilEpoch;
        emit SignerSet(msg.sender, signer, given.from, untilEpoch);
    }

    function _requireRegistered() private view {
        if (_payee(msg.sender).activeFrom == 0) revert PayeeNotRegistered(msg.sender);
    }

    // ---------------------------------------------------------------- credits

    /// @notice Pays all matured credits of the caller to its payout address.
    function withdrawCredits() external nonReentrant {
        uint32 window = _currentWindow();
        Aged storage aged = _aged[msg.sender];
        // Up to date already when something was credited in this window: then one slot says it all.
        if (aged.window != window) _aged[msg.sender] = _rotated(msg.sender, window);
        (uint96 amount, bool redirected) = (aged.matured, aged.redirected);
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        aged.matured = 0;
        emit CreditsWithdrawn(msg.sender, amount);
        _pay(redirected ? payoutOf(msg.sender) : msg.sender, amount);
    }

    /// @dev Once per payee and epoch. A payee credited in this window before is active.
    function _credit(address account, uint256 amount, uint32 window, uint40 epoch) internal {
        PackedPayee storage payee = _payees[account];
        uint256 word = payee.word;
        // The casts cut window and first out of the word.
        // forge-lint: disable-next-line(unsafe-typecast)
        if (uint32(word >> WINDOW_SHIFT) != window) {
            _aged[account] = _rotated(account, window);
            word = payee.word;
        }
        // forge-lint: disable-next-line(unsafe-typecast)
        if (uint40(word >> FIRST_SHIFT) == 0) word |= uint256(epoch) << FIRST_SHIFT;
        // No carry into the window: all that is held is below 2**96, and what is credited was debited before.
        unchecked {
            payee.word = word + amount;
        }
    }

    /// @dev Brings an active payee to `window`: what is two windows old has matured. The caller stores what is
    /// returned.
    function _rotated(address account, uint32 window) private returns (Aged memory aged) {
        Payee memory payee = _payee(account);
        if (payee.activeFrom == 0 || block.timestamp < payee.activeFrom) revert PayeeNotActive(account);
        aged = _aged[account];
        if (window - payee.window == 1) {
            aged.matured += aged.resting;
            aged.resting = payee.current;
            payee.firstBefore = payee.first;
        } else {
            aged.matured += aged.resting + payee.current;
            aged.resting = 0;
            payee.firstBefore = 0;
        }
        aged.window = window;
        (payee.current, payee.window, payee.first) = (0, window, 0);
        _store(account, payee);
    }

    function _payee(address account) private view returns (Payee memory) {
        uint256 word = _payees[account].word;
        // Each cast cuts one field out of the word.
        // forge-lint: disable-start(unsafe-typecast)
        return Payee({
            current: uint96(word),
            window: uint32(word >> WINDOW_SHIFT),
            activeFrom: uint40(word >> ACTIVE_FROM_SHIFT),
            first: uint40(word >> FIRST_SHIFT),
            firstBefore: uint40(word >> FIRST_BEFORE_SHIFT)
        });
        // forge-lint: disable-end(unsafe-typecast)
    }

    function _store(address account, Payee memory payee) private {
        _payees[account].word = uint256(payee.firstBefore) << FIRST_BEFORE_SHIFT | uint256(payee.first)
            << FIRST_SHIFT | uint256(payee.activeFrom) << ACTIVE_FROM_SHIFT | uint256(payee.window)
            << WINDOW_SHIFT | payee.current;
    }

    function _currentWindow() internal view returns (uint32) {
        return (block.timestamp / disputeWindow).toUint32();
    }

    // ---------------------------------------------------------------- disputes

    /// @notice Whether what a settled epoch credited to `account` still rests, and so can be frozen. Says nothing
    /// sensible of an epoch that did not credit it.
    function restsStill(uint64 epoch, address account) external view returns (bool) {
        Payee memory payee = _payee(account);
        uint256 age = _currentWindow() - payee.window;
        return age < 2 && (_since(payee.first, epoch) || (age == 0 && _since(payee.firstBefore, epoch)));
    }

    function _since(uint40 first, uint64 epoch) private pure returns (bool) {
        return first != 0 && epoch >= first;
    }

    /// @dev Takes `amount`, credited by `epoch`, out of what rests.
    function _takeResting(uint64 epoch, address account, uint96 amount) internal {
        uint32 window = _currentWindow();
        Aged memory aged = _aged[account];
        if (aged.window != window) aged = _rotated(account, window);
        Payee memory payee = _payee(account);
        if (_since(payee.first, epoch)) {
            payee.current -= amount;
            _store(account, payee);
        } else if (_since(payee.firstBefore, epoch)) {
            aged.resting -= amount;
        } else {
            revert DisputeWindowOver(epoch);
        }
        _aged[account] = aged;
    }

    /// @dev Adds what a dispute released: it has rested for long enough.
    function _addMatured(address account, uint96 amount) internal {
        _aged[account].matured += amount;
    }

    // ---------------------------------------------------------------- views

    /// @notice From when on a payee can be credited, in Unix seconds; 0 when it is not registered.
    function payeeActiveFrom(address account) external view returns (uint40) {
        return _payee(account).activeFrom;
    }

    /// @notice What a payee is owed, and the part of it that it could withdraw now. Frozen credits are in neither.
    function creditsOf(address account) external view returns (uint256 owed, uint256 withdrawable) {
        Payee memory payee = _payee(account);
        Aged memory aged = _aged[account];
        uint256 age = _currentWindow() - payee.window;
        owed = uint256(payee.current) + aged.resting + aged.matured;
        withdrawable = aged.matured;
        if (age >= 1) withdrawable += aged.resting;
        if (age >= 2) withdrawable += payee.current;
    }

    /// @notice Where a payee's credits would be paid to now.
    function payoutOf(address account) public view returns (address) {
        Payout memory payout = _payouts[account];
        if (payout.next != address(0) && block.timestamp >= payout.nextFrom) return payout.next;
        return payout.to == address(0) ? account : payout.to;
    }

    /// @notice The change of a payee's payout address that is under way; zeros when there is none.
    function payoutChangeOf(address account) external view returns (address next, uint40 effectiveAt) {
        Payout memory payout = _payouts[account];
        if (block.timestamp < payout.nextFrom) return (payout.next, payout.nextFrom);
    }

    /// @notice The epochs for which `signer` signs `payee`'s receipts, both inclusive; zeros when for none.
    function signerOf(address payee, address signer) external view returns (Signer memory) {
        return _signers[payee][signer];
    }
}
