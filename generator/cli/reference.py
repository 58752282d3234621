"""Commands to look things up: ``explain``, ``rules``, ``schema``."""

from __future__ import annotations

import click

from generator.cli.shared import CONTEXT, Stop, stowage


@stowage.command(context_settings=CONTEXT)
@click.argument("code")
def explain(code: str) -> None:
    """
    Print the essay of one rule: what is wrong, why it hurts, what to write instead, and the source.

    \b
    stowage explain NET006
    """
    from generator import lint

    rules = {rule.code: rule for rule in lint.rules()}
    rule = rules.get(code.strip().upper())
    if rule is None:
        from difflib import get_close_matches

        close = (
            ", ".join(get_close_matches(code.upper(), rules, n=3)) or ", ".join(sorted({known[:3] for known in rules})) + " and a number"
        )
        raise Stop(f"no rule {code}", f"did you mean {close}? `stowage rules` lists all")
    click.echo(f"{rule.code} ({rule.severity}): {rule.essay}")


@stowage.command(context_settings=CONTEXT)
def rules() -> None:
    """
    List all rules: code, severity, and the problem it names. `stowage explain CODE` prints the essay of one.

    \b
    stowage rules | grep error
    """
    from generator import lint

    for rule in lint.rules():
        click.echo(f"{rule.code}  {rule.severity:7}  {rule.title}")


@stowage.command(context_settings=CONTEXT)
def schema() -> None:
    """
    Print the inventory's JSON Schema, for editors and other tools.

    \b
    stowage schema > inventory.v1.schema.json
    # yaml-language-server: $schema=inventory.v1.schema.json      (the first line of an inventory)
    """
    from generator import resources, validate

    click.echo(resources.text(validate.SCHEMA), nl=False)
