"""Commands to look things up: ``explain``, ``rules``, ``schema``; and ``completion`` for shells."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from generator.cli.shared import CONTEXT, Stop, language_of, language_option, stowage


def _codes(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from generator import lint

    return [CompletionItem(rule.code, help=rule.title) for rule in lint.rules() if rule.code.startswith(incomplete.upper())]


@stowage.command(context_settings=CONTEXT)
@click.argument("code", shell_complete=_codes)
@language_option
@click.pass_context
def explain(context: click.Context, code: str) -> None:
    """
    Print the essay of one rule: what is wrong, why it hurts, what to write instead, and the source.

    \b
    stowage explain NET006
    """
    from generator import lint, messages
    from generator.wording import said

    rules = {rule.code: rule for rule in lint.rules()}
    rule = rules.get(code.strip().upper())
    if rule is None:
        from difflib import get_close_matches

        close = ", ".join(get_close_matches(code.upper(), rules, n=3))
        if not close:
            close = said("{topics} and a number", topics=", ".join(sorted({known[:3] for known in rules})))
        raise Stop(said("no rule {code}", code=code), said("did you mean {close}? `stowage rules` lists all", close=close))
    language = language_of(context)
    severity = messages.translated(rule.severity, language)
    click.echo(f"{rule.code} ({severity}): {messages.essay(rule.code, rule.essay, language)}")


@stowage.command(context_settings=CONTEXT)
@language_option
@click.pass_context
def rules(context: click.Context) -> None:
    """
    List all rules: code, severity, and the problem it names. `stowage explain CODE` prints the essay of one.

    \b
    stowage rules | grep error
    """
    from generator import lint, messages

    language = language_of(context)
    for rule in lint.rules():
        click.echo(f"{rule.code}  {messages.translated(rule.severity, language):7}  {messages.title(rule.code, rule.title, language)}")


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


@stowage.command(context_settings=CONTEXT)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """
    Print a script that makes SHELL complete commands, options, files and the codes of rules.

    \b
    stowage completion bash > ~/.local/share/bash-completion/completions/stowage
    stowage completion zsh > ~/.zfunc/_stowage                (a folder of fpath)
    stowage completion fish > ~/.config/fish/completions/stowage.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(stowage, {}, "stowage", "_STOWAGE_COMPLETE").source(), nl=False)
