"""The name server: authoritative for foobar.com, by UDP and TCP, and for nothing else."""

from collections.abc import Callable

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from tests.stack import Stack

pytestmark = pytest.mark.stage(0, 1, 2)

Ask = Callable[[str, str], dns.message.Message]


@pytest.fixture(params=["udp", "tcp"])
def ask(stack: Stack, request: pytest.FixtureRequest) -> Ask:
    """Put one question to the published port."""

    def put(name: str, kind: str) -> dns.message.Message:
        question = dns.message.make_query(name, kind)
        where, port = stack.settings.address, stack.settings.dns_port
        if request.param == "udp":
            return dns.query.udp(question, where, port=port, timeout=10)
        return dns.query.tcp(question, where, port=port, timeout=10)

    return put


def records(answer: dns.message.Message) -> set[tuple[str, str, str]]:
    return {
        (str(rrset.name), dns.rdatatype.to_text(rrset.rdtype), record.to_text())
        for rrset in answer.answer
        for record in rrset
    }


def test_the_bare_name_has_the_address_and_www_is_another_name_for_it(stack: Stack, ask: Ask) -> None:
    address = ("foobar.com.", "A", f"{stack.settings.subnet_prefix}.0.2")

    bare, www = ask("foobar.com", "A"), ask("www.foobar.com", "A")

    assert records(bare) == {address}
    assert records(www) == {("www.foobar.com.", "CNAME", "foobar.com."), address}
    assert records(ask("www.foobar.com", "CNAME")) == {("www.foobar.com.", "CNAME", "foobar.com.")}
    for answer in (bare, www):
        assert answer.rcode() == dns.rcode.NOERROR
        assert answer.flags & dns.flags.AA, "the answer is not authoritative"
        assert not answer.flags & dns.flags.RA, "it offers to ask others"


def test_it_knows_what_does_not_exist(ask: Ask) -> None:
    nothing, no_kind = ask("ftp.foobar.com", "A"), ask("foobar.com", "AAAA")

    assert nothing.rcode() == dns.rcode.NXDOMAIN
    assert (no_kind.rcode(), no_kind.answer) == (dns.rcode.NOERROR, [])
    assert nothing.flags & no_kind.flags & dns.flags.AA


def test_it_answers_for_no_other_zone(ask: Ask) -> None:
    for name in ("example.com", "com", "."):
        refused = ask(name, "A")
        assert (refused.rcode(), refused.answer) == (dns.rcode.REFUSED, [])


def test_it_gives_nobody_the_whole_zone(stack: Stack) -> None:
    wanted = dns.message.make_query("foobar.com", "AXFR")

    answer = dns.query.tcp(wanted, stack.settings.address, port=stack.settings.dns_port, timeout=10)

    assert answer.rcode() in (dns.rcode.REFUSED, dns.rcode.NOTAUTH)
    assert not answer.answer


def test_make_hosts_gives_both_names_the_published_address(stack: Stack) -> None:
    *_, line = stack.must("hosts").strip().splitlines()

    assert line.split() == [stack.settings.address, "www.foobar.com", "foobar.com"]
