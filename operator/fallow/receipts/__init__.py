"""Pure money arithmetic: what an attempt costs, who signed what, and what an epoch commits to.

Everything here is a function of its arguments: no clock, no network, no chain client. Amounts are
integers of the token's smallest unit. The same bytes are computed in Solidity; the golden vectors
in `contracts/test/vectors` hold both sides together. `docs/money.md` is the formats' reference.

    words       32-byte ABI words and keccak
    requests    a pod's effective requests
    pricing     price per task-hour, amount owed
    usage       seconds of one attempt
    merkle      OpenZeppelin's standard tree
    attempts    attempt leaves and the attempts root
    charging    what a claim charges, and how several claims of a placement add up
    typed_data  EIP-712: the domain, signing, recovering
    messages    Receipt, Quote, AccountAuthorization, PayeeRegistration, Settlement
    terms       a quote's terms as one hash
    contract_signatures  EIP-1271 as one raw call
    statements  from API objects to the messages: sign and check quotes, receipts, authorizations
    epochs      claim ids, salts, claim and allocation leaves, lines, the commitment chain
"""
