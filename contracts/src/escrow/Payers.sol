// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {Gate} from "./Gate.sol";

/// @title Payers: deposits, how much may be debited how often, and notices.
/// @notice What loosens takes effect at once; what takes money or rights away from the hub needs a notice, and
/// a notice that is not used within 24 hours of its maturity expires: nobody keeps one in stock.
abstract contract Payers is Gate {
    using SafeCast for uint256;

    /// @dev `cap` 0 means never bound.
    struct Payer {
        uint96 balance;
        uint96 cap;
        uint40 lastDebitAt;
        uint24 minInterval;
    }

    /// @dev A Payer in one word, which settling reads and writes once: balance in its lowest 96 bits, then cap,
    /// lastDebitAt, minInterval. (A struct in storage would be read and written field by field.)
    struct PackedPayer {
        uint256 word;
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

    uint256 private constant BASIS_POINTS = 10_000;
    uint256 private constant CAP_SHIFT = 96;
    uint256 private constant LAST_DEBIT_SHIFT = 192;
    uint256 private constant INTERVAL_SHIFT = 232;

    /// @notice How long a matured notice can be executed before it expires, in seconds.
    uint256 public constant NOTICE_VALIDITY = 24 hours;

    /// @notice Largest part of a payer's debit that may go to the fee collector, in 1/10,000.
    uint16 public immutable maxFeeBasisPoints;
    /// @notice Seconds between a payer's notice and the withdrawal or stricter binding.
    uint32 public immutable noticePeriod;

    mapping(address payer => PackedPayer) private _payers;
    mapping(address payer => Notice) private _notices;
    mapping(address payer => BindingNotice) private _bindingNotices;

    event Deposited(address indexed payer, address indexed from, uint256 amount);
    event Bound(address indexed payer, uint96 cap, uint24 minInterval);
    event BindingNoticeGiven(address indexed payer, uint96 cap, uint24 minInterval, uint40 maturesAt);
    event WithdrawalNoticeGiven(address indexed payer, uint96 amount, uint40 maturesAt);
    event Withdrawn(address indexed payer, uint256 amount);

    error PayerNotBound(address payer);
    error CapExceeded(address payer, uint256 debit, uint256 cap);
    error DebitTooSoon(address payer, uint256 notBefore);
    error InsufficientBalance(address payer, uint256 debit, uint256 balance);
    error FeeTooHigh(address payer, uint256 fee, uint256 debit);
    error StricterBindingNeedsNotice();
    error NoNotice(address payer);
    error NoticeNotMature(uint256 maturesAt);
    error NoticeExpired(uint256 expiredAt);

    constructor(uint16 maxFeeBasisPoints_, uint32 noticePeriod_) {
        if (maxFeeBasisPoints_ > BASIS_POINTS) revert InvalidConfig();
        maxFeeBasisPoints = maxFeeBasisPoints_;
        noticePeriod = noticePeriod_;
    }

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

    function _deposit(address payer, uint96 amount) private {
        if (payer == address(0)) revert ZeroAddress();
        _requireNotClosing();
        _receive(amount);
        _addBalance(payer, amount);
        emit Deposited(payer, msg.sender, amount);
    }

    /// @notice Lets this hub debit the caller by at most `cap` at a time and once per `minInterval` seconds.
    /// The first time, or when neither gets stricter, at once; else `giveBindingNotice` is the way.
    /// @param minInterval 0 sets no limit to how often: the cap is then one per epoch, not one per time.
    function bind(uint96 cap, uint24 minInterval) external {
        if (cap == 0) revert ZeroAmount();
        Payer memory payer = _payer(msg.sender);
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
        _setBinding(_payer(msg.sender), notice.cap, notice.minInterval);
    }

    function _setBinding(Payer memory payer, uint96 cap, uint24 minInterval) private {
        payer.cap = cap;
        payer.minInterval = minInterval;
        _store(msg.sender, payer);
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
        _withdraw(notice.amount);
    }

    /// @notice Pays the caller's whole balance, without notice, once the escrow is closed.
    function withdrawAll() external nonReentrant {
        _requireClosed();
        _withdraw(type(uint96).max);
    }

    function _withdraw(uint96 most) private {
        Payer memory payer = _payer(msg.sender);
        uint96 amount = most < payer.balance ? most : payer.balance;
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        payer.balance -= amount;
        _store(msg.sender, payer);
        emit Withdrawn(msg.sender, amount);
        _pay(msg.sender, amount);
    }

    /// @dev Once per payer and epoch. `fee` is the part of `debit` that goes to the fee collector.
    function _debit(address account, uint256 debit, uint256 fee) internal {
        Payer memory payer = _payer(account);
        if (payer.cap == 0) revert PayerNotBound(account);
        if (debit > payer.cap) revert CapExceeded(account, debit, payer.cap);
        uint256 notBefore = uint256(payer.lastDebitAt) + payer.minInterval;
        if (block.timestamp < notBefore) revert DebitTooSoon(account, notBefore);
        if (debit > payer.balance) revert InsufficientBalance(account, debit, payer.balance);
        if (fee * BASIS_POINTS > debit * maxFeeBasisPoints) revert FeeTooHigh(account, fee, debit);
        // At most the balance, as checked above.
        // forge-lint: disable-next-line(unsafe-typecast)
        payer.balance -= uint96(debit);
        payer.lastDebitAt = block.timestamp.toUint40();
        _store(account, payer);
    }

    /// @dev Gives back what a dispute was won over. It is debitable again.
    function _refund(address payer, uint96 amount) internal {
        _addBalance(payer, amount);
    }

    /// @dev No carry into the cap: `liabilities`, of which it is a part, is below 2**96.
    function _addBalance(address account, uint96 amount) private {
        _payers[account].word += amount;
    }

    function _payer(address account) private view returns (Payer memory) {
        uint256 word = _payers[account].word;
        // Each cast cuts one field out of the word.
        // forge-lint: disable-start(unsafe-typecast)
        return Payer({
            balance: uint96(word),
            cap: uint96(word >> CAP_SHIFT),
            lastDebitAt: uint40(word >> LAST_DEBIT_SHIFT),
            minInterval: uint24(word >> INTERVAL_SHIFT)
        });
        // forge-lint: disable-end(unsafe-typecast)
    }

    function _store(address account, Payer memory payer) private {
        _payers[account].word = uint256(payer.minInterval) << INTERVAL_SHIFT | uint256(payer.lastDebitAt)
            << LAST_DEBIT_SHIFT | uint256(payer.cap) << CAP_SHIFT | payer.balance;
    }

    function _maturity() private view returns (uint40) {
        return (block.timestamp + noticePeriod).toUint40();
    }

    function _requireMature(uint256 maturesAt) private view {
        if (maturesAt == 0) revert NoNotice(msg.sender);
        if (block.timestamp < maturesAt) revert NoticeNotMature(maturesAt);
        if (block.timestamp > maturesAt + NOTICE_VALIDITY) revert NoticeExpired(maturesAt + NOTICE_VALIDITY);
    }

    /// @notice Balance and binding of a payer.
    function payerOf(address account) external view returns (Payer memory) {
        return _payer(account);
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
}
