"""`fallow chain deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from fallow.cli.chain_session import a_key, an_address, at_chain, confirm
from fallow.cli.deploying import DisputeConfig, refuse_carelessness
from fallow.cli.deploying import deploy as deploy_both
from fallow.errors import AmountError, InvalidSetting
from fallow.receipts.words import from_hex
from fallow.resources.money import parse_amount
from fallow.settler.escrow import EscrowConfig, Token
from fallow.settler.rpc import Rpc

MIN_DECIMALS = 6


def deploy(
    *, rpc: str, keystore: Path, password_file: Path, hub_id: str, audit: str | None, yes: bool, **given: Any
) -> None:
    """Deploy escrow and disputes module."""
    roles = ("token", "owner", "operator", "guardian", "arbiter", "beneficiary", "fee_collector")
    at = {role: an_address(given[role], flag=f"--{role.replace('_', '-')}") for role in roles}
    try:
        hub = from_hex(hub_id)
    except ValueError as error:
        raise InvalidSetting(f"--hub-id: {error}.") from None
    config = EscrowConfig(
        token=at["token"],
        hub_id=hub,
        owner=at["owner"],
        operator=at["operator"],
        guardian=at["guardian"],
        fee_collector=at["fee_collector"],
        max_fee_basis_points=given["max_fee_basis_points"],
        notice_seconds=given["notice_seconds"],
        payee_delay_seconds=given["payee_delay_seconds"],
        dispute_window_seconds=given["dispute_window_seconds"],
    )
    least = 2 * given["dispute_window_seconds"] + given["reveal_seconds"] + given["arbitration_seconds"]
    if given["unbonding_seconds"] <= least:
        raise InvalidSetting(f"--unbonding-seconds must be above {least}: stakes outlast every dispute.")
    key = a_key(keystore, password_file)

    async def run(endpoint: Rpc) -> None:
        chain_id = await endpoint.chain_id()
        await refuse_carelessness(
            endpoint, chain_id=chain_id, owner=at["owner"], arbiter=at["arbiter"], audit=audit
        )
        decimals = await Token(endpoint, at["token"]).decimals()
        if decimals < MIN_DECIMALS:
            raise InvalidSetting(f"--token {at['token']} has {decimals} decimals; it takes at least 6.")
        try:
            bond = parse_amount(given["minimum_bond"], decimals=decimals)
        except AmountError as error:
            raise InvalidSetting(f"--minimum-bond: {error}.") from None
        disputes = DisputeConfig(
            arbiter=at["arbiter"],
            beneficiary=at["beneficiary"],
            minimum_bond=bond,
            bond_basis_points=given["bond_basis_points"],
            reveal_seconds=given["reveal_seconds"],
            arbitration_seconds=given["arbitration_seconds"],
            unbonding_seconds=given["unbonding_seconds"],
        )
        confirm(
            f"Deploy an escrow for token {at['token']} and hub {hub_id} on chain {chain_id}, owned by "
            f"{at['owner']}, audited by {audit or 'nobody'}. Token, hub and durations are for ever.",
            yes=yes,
        )
        escrow, module, attached = await deploy_both(endpoint, config, disputes, key=key)
        typer.echo(f"escrow    {escrow.address}\ndisputes  {module.address}\nchain     {chain_id}")
        if not attached:
            typer.echo(
                f"Next: the owner {at['owner']} calls attachDisputes({module.address}) on the escrow; until "
                "then, and after the first epoch, there are no disputes."
            )

    at_chain(rpc, run)
