//! The egress guard's test list, one row a case, through the caller as the worker has it.

use std::collections::HashMap;

use super::*;

/// What becomes of a call.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// It reached the server on loopback.
    Reached,
    /// Nothing was refused; the address, which nobody can reach from a test, was not reached.
    Tried,
    /// Blocked, for a reason with this text in it.
    Blocked(&'static str),
    /// The URL cannot be sent, for a reason with this text in it.
    Unsendable(&'static str),
}
use Verdict::{Blocked, Reached, Tried, Unsendable};

/// Name, URL (`PORT` is the server's on loopback), what the DNS answers, what the operator allows, verdict.
type Case = (&'static str, &'static str, &'static [&'static str], &'static [&'static str], Verdict);

/// The hosts of the provider, and the URL's own if that is an address: as if the definition itself named it.
const HOSTS: [&str; 5] =
    ["api.example.com", "*.shop.example", "gateway", "localhost", "metadata.google.internal"];

/// An ordinary URL of the provider.
const API: &str = "https://api.example.com:PORT/token";
/// The same without TLS.
const PLAIN: &str = "http://api.example.com:PORT/token";

const METADATA: &str = "https://metadata.google.internal/";

/// At which a provider may be. Never connected to: see [`caller_on`].
const PUBLIC: &[&str] = &["93.184.215.14"];

const NAMES: &[Case] = &[
    // What the DNS may answer.
    ("public IPv4", API, PUBLIC, &[], Tried),
    ("public IPv6", API, &["2606:2800:21f::1"], &[], Tried),
    ("NAT64 of a public address", API, &["64:ff9b::5db8:d70e"], &[], Tried),
    ("IPv4-mapped public address", API, &["::ffff:93.184.215.14"], &[], Tried),
    ("no address", API, &[], &[], Tried),
    // What it may not.
    ("loopback", API, &["127.0.0.1"], &[], Blocked("loopback")),
    ("loopback, not the usual one", API, &["127.9.8.7"], &[], Blocked("loopback")),
    ("loopback IPv6", API, &["::1"], &[], Blocked("loopback")),
    ("private 10/8", API, &["10.0.0.1"], &[], Blocked("private")),
    ("private 172.16/12", API, &["172.31.255.255"], &[], Blocked("private")),
    ("private 192.168/16", API, &["192.168.1.1"], &[], Blocked("private")),
    ("carrier-grade NAT 100.64/10", API, &["100.64.0.1"], &[], Blocked("carrier")),
    ("Alibaba's metadata", API, &["100.100.100.200"], &[], Blocked("carrier")),
    ("link-local", API, &["169.254.1.1"], &[], Blocked("link-local")),
    ("metadata of AWS, Google, Azure", API, &["169.254.169.254"], &[], Blocked("metadata")),
    ("metadata of AWS's containers", API, &["169.254.170.2"], &[], Blocked("metadata")),
    ("metadata of AWS by IPv6", API, &["fd00:ec2::254"], &[], Blocked("private")),
    ("credentials of AWS's pods", API, &["169.254.170.23"], &[], Blocked("metadata")),
    ("credentials of AWS's pods by IPv6", API, &["fd00:ec2::23"], &[], Blocked("private")),
    ("names of AWS by IPv6", API, &["fd00:ec2::253"], &[], Blocked("private")),
    ("metadata of Google by IPv6", API, &["fd20:ce::254"], &[], Blocked("private")),
    ("metadata of Tencent", API, &["169.254.0.23"], &[], Blocked("metadata")),
    ("metadata of Oracle", API, &["192.0.0.192"], &[], Blocked("reserved")),
    ("Azure's own services", API, &["168.63.129.16"], &[], Blocked("cloud")),
    ("link-local IPv6", API, &["fe80::1"], &[], Blocked("link-local")),
    ("unique local IPv6", API, &["fc00::1"], &[], Blocked("private")),
    ("site-local IPv6", API, &["fec0::1"], &[], Blocked("private")),
    ("unspecified", API, &["0.0.0.0"], &[], Blocked("unspecified")),
    ("this network", API, &["0.1.2.3"], &[], Blocked("unspecified")),
    ("unspecified IPv6", API, &["::"], &[], Blocked("unspecified")),
    ("multicast", API, &["224.0.0.251"], &[], Blocked("multicast")),
    ("multicast IPv6", API, &["ff02::1"], &[], Blocked("multicast")),
    ("broadcast", API, &["255.255.255.255"], &[], Blocked("broadcast")),
    ("documentation 192.0.2/24", API, &["192.0.2.1"], &[], Blocked("documentation")),
    ("documentation 198.51.100/24", API, &["198.51.100.1"], &[], Blocked("documentation")),
    ("documentation 203.0.113/24", API, &["203.0.113.1"], &[], Blocked("documentation")),
    ("documentation IPv6", API, &["2001:db8::1"], &[], Blocked("documentation")),
    ("documentation IPv6, the newer", API, &["3fff::1"], &[], Blocked("documentation")),
    ("benchmarks 198.18/15", API, &["198.19.0.1"], &[], Blocked("benchmarks")),
    ("protocol assignments 192.0.0/24", API, &["192.0.0.8"], &[], Blocked("reserved")),
    ("reserved 240/4", API, &["240.0.0.1"], &[], Blocked("reserved")),
    ("IPv4-mapped loopback", API, &["::ffff:127.0.0.1"], &[], Blocked("loopback")),
    ("IPv4-mapped metadata", API, &["::ffff:169.254.169.254"], &[], Blocked("metadata")),
    ("IPv4-mapped, Azure's own services", API, &["::ffff:168.63.129.16"], &[], Blocked("cloud")),
    ("IPv4-mapped, Alibaba's metadata", API, &["::ffff:100.100.100.200"], &[], Blocked("carrier")),
    ("IPv4-compatible loopback", API, &["::127.0.0.1"], &[], Blocked("reserved")),
    ("IPv4-translated private", API, &["::ffff:0:10.0.0.1"], &[], Blocked("reserved")),
    ("NAT64 of a private address", API, &["64:ff9b::10.0.0.1"], &[], Blocked("private")),
    ("NAT64 of metadata", API, &["64:ff9b::169.254.169.254"], &[], Blocked("metadata")),
    ("NAT64 of loopback", API, &["64:ff9b::127.0.0.1"], &[], Blocked("loopback")),
    ("NAT64 of Alibaba's metadata", API, &["64:ff9b::100.100.100.200"], &[], Blocked("carrier")),
    ("local NAT64", API, &["64:ff9b:1::10.0.0.1"], &[], Blocked("reserved")),
    ("6to4 of a private address", API, &["2002:a00:1::"], &[], Blocked("private")),
    ("6to4 of loopback", API, &["2002:7f00:1::1"], &[], Blocked("loopback")),
    ("6to4 of metadata", API, &["2002:a9fe:a9fe::1"], &[], Blocked("metadata")),
    ("6to4 of a public address", API, &["2002:5db8:d70e::1"], &[], Tried),
    // The client's bits are inverted.
    ("Teredo with a private client", API, &["2001:0:5db8:d70e::f5ff:fffe"], &[], Blocked("private")),
    ("Teredo with a private server", API, &["2001:0:a00:1::a247:28f1"], &[], Blocked("private")),
    ("discard-only IPv6", API, &["100::1"], &[], Blocked("reserved")),
    ("segment routing IPv6", API, &["5f00::1"], &[], Blocked("reserved")),
    ("hashed identifiers IPv6", API, &["2001:20::1"], &[], Blocked("reserved")),
    ("several, all refused", API, &["10.0.0.1", "::1"], &[], Blocked("private")),
    ("several, one of them fine", API, &["127.0.0.1", "93.184.215.14"], &[], Tried),
    ("several, one of them not", API, &["93.184.215.14", "127.0.0.1"], &[], Tried),
    // Names for what is not to be reached.
    ("localhost", "https://localhost:PORT/", &["127.0.0.1"], &[], Blocked("loopback")),
    ("a name for metadata", METADATA, &["169.254.169.254"], &[], Blocked("metadata")),
    // Hosts.
    ("below a wildcard", "https://a.shop.example:PORT/", PUBLIC, &[], Tried),
    ("far below a wildcard", "https://a.b.shop.example/", PUBLIC, &[], Tried),
    ("in capitals", "https://API.Example.COM/", PUBLIC, &[], Tried),
    ("below a wildcard, private", "https://a.shop.example:PORT/", &["127.0.0.1"], &[], Blocked("loopback")),
    ("the wildcard's own domain", "https://shop.example/", PUBLIC, &[], Blocked("not one of")),
    ("ends like a wildcard", "https://evilshop.example/", PUBLIC, &[], Blocked("not one of")),
    ("another host", "https://evil.test/", PUBLIC, &[], Blocked("not one of")),
    ("goes on after it", "https://api.example.com.evil.test/", PUBLIC, &[], Blocked("not one of")),
    ("a letter that looks alike", "https://api.exаmple.com/", PUBLIC, &[], Blocked("not one of")),
    ("wide letters for the same", "https://ａｐｉ.example.com/", PUBLIC, &[], Tried),
    ("an encoded letter for the same", "https://%61pi.example.com/", PUBLIC, &[], Tried),
    ("a dot at the end", "https://api.example.com./", PUBLIC, &[], Blocked("a dot")),
    ("a dot at the end, private", "https://gateway.:PORT/", &["127.0.0.1"], &[], Blocked("a dot")),
    ("two dots at the end", "https://api.example.com../", PUBLIC, &[], Blocked("a dot")),
    ("a user before it", "https://api.example.com@evil.test/", PUBLIC, &[], Unsendable("user")),
    ("a password before it", "https://a:b@api.example.com/", PUBLIC, &[], Unsendable("user")),
    ("a port before another host", "https://api.example.com:443@evil.test/", PUBLIC, &[], Unsendable("user")),
    ("an empty user before another host", "https://@evil.test/", PUBLIC, &[], Blocked("not one of")),
    ("two at signs", "https://a@api.example.com@evil.test/", PUBLIC, &[], Unsendable("user")),
    ("behind another one's path", "https://evil.test/@api.example.com/", PUBLIC, &[], Blocked("not one of")),
    ("behind another one's query", "https://evil.test?@api.example.com/", PUBLIC, &[], Blocked("not one of")),
    (
        "behind another one's fragment",
        "https://evil.test#@api.example.com/",
        PUBLIC,
        &[],
        Unsendable("percent-encode"),
    ),
    (
        "with another one in its fragment",
        "https://api.example.com/#@evil.test",
        PUBLIC,
        &[],
        Unsendable("percent-encode"),
    ),
    (
        "a line end before more of it",
        "https://api.example.com\n.evil.test/",
        PUBLIC,
        &[],
        Blocked("not one of"),
    ),
    ("a tab before more of it", "https://api.example.com\t.evil.test/", PUBLIC, &[], Blocked("not one of")),
    ("an encoded slash in it", "https://api.example.com%2f.evil.test/", PUBLIC, &[], Unsendable("not valid")),
    (
        "an encoded at sign in it",
        "https://api.example.com%40evil.test/",
        PUBLIC,
        &[],
        Unsendable("not valid"),
    ),
    ("a zero byte in it", "https://api.example.com%00.evil.test/", PUBLIC, &[], Unsendable("not valid")),
    ("an invisible letter in it", "https://api.exam\u{ad}ple.com/", PUBLIC, &[], Tried),
    ("a port too large", "https://api.example.com:65536/", PUBLIC, &[], Unsendable("not valid")),
    ("a port twice", "https://api.example.com:443:22/", PUBLIC, &[], Unsendable("not valid")),
    ("a port that is no number", "https://api.example.com:https/", PUBLIC, &[], Unsendable("not valid")),
    ("no port after its colon", "https://api.example.com:/", PUBLIC, &[], Tried),
    ("leading zeros in its port", "https://api.example.com:0000443/", PUBLIC, &[], Tried),
    ("a backslash", "https://evil.test\\@gateway/", PUBLIC, &[], Unsendable("percent-encode")),
    // Schemes.
    ("http", PLAIN, PUBLIC, &[], Blocked("not https")),
    ("http in capitals", "HTTP://api.example.com/", PUBLIC, &[], Blocked("not https")),
    ("http at the port of https", "http://api.example.com:443/", PUBLIC, &[], Blocked("not https")),
    ("http to loopback", PLAIN, &["127.0.0.1"], &[], Blocked("not https")),
    ("ftp", "ftp://api.example.com/", PUBLIC, &[], Unsendable("neither")),
    ("file", "file:///etc/passwd", &[], &[], Unsendable("neither")),
    // The operator's exceptions.
    ("allowed, http, loopback", PLAIN, &["127.0.0.1"], &["api.example.com"], Reached),
    ("allowed, https, private", API, &["10.0.0.1"], &["api.example.com"], Tried),
    ("allowed, metadata", API, &["169.254.169.254"], &["api.example.com"], Tried),
    ("allowed in capitals", PLAIN, &["127.0.0.1"], &["API.example.com"], Reached),
    ("allowed at its port", "http://gateway:8080/", &["10.0.0.1"], &["gateway:8080"], Tried),
    ("another port", "http://gateway:8081/", &["10.0.0.1"], &["gateway:8080"], Blocked("not https")),
    ("the same over https", "https://gateway:8081/", &["10.0.0.1"], &["gateway:8080"], Blocked("private")),
    ("the port by another name", "http://gateway:08080/", &["10.0.0.1"], &["gateway:8080"], Tried),
    ("allowed at http's port", "http://gateway/", &["10.0.0.1"], &["gateway:80"], Tried),
    (
        "allowed at http's port, over https",
        "https://gateway/",
        &["10.0.0.1"],
        &["gateway:80"],
        Blocked("private"),
    ),
    ("another host is allowed", API, &["127.0.0.1"], &["gateway"], Blocked("loopback")),
    ("its address is allowed, not its name", API, &["127.0.0.1"], &["127.0.0.1"], Blocked("loopback")),
    ("allowed, but not the provider's", "http://other/", &["10.0.0.1"], &["other"], Blocked("not one of")),
    ("allowed, with a dot", "http://gateway./", &["10.0.0.1"], &["gateway"], Blocked("a dot")),
];

const ADDRESSES: &[Case] = &[
    ("public IPv4", "https://93.184.215.14/", &[], &[], Tried),
    ("public IPv6", "https://[2606:2800:21f::1]/", &[], &[], Tried),
    ("loopback", "https://127.0.0.1:PORT/", &[], &[], Blocked("loopback")),
    ("decimal", "https://2130706433:PORT/", &[], &[], Blocked("loopback")),
    ("octal", "https://0177.0.0.1:PORT/", &[], &[], Blocked("loopback")),
    ("octal in one", "https://017700000001:PORT/", &[], &[], Blocked("loopback")),
    ("hexadecimal", "https://0x7f000001:PORT/", &[], &[], Blocked("loopback")),
    ("hexadecimal by parts", "https://0x7F.0x0.0x0.0x1:PORT/", &[], &[], Blocked("loopback")),
    ("mixed", "https://0x7f.0.0.01:PORT/", &[], &[], Blocked("loopback")),
    ("two parts", "https://127.1:PORT/", &[], &[], Blocked("loopback")),
    ("three parts", "https://127.0.1:PORT/", &[], &[], Blocked("loopback")),
    ("zero", "https://0:PORT/", &[], &[], Blocked("unspecified")),
    ("leading zeros", "https://0000177.00.000.0001:PORT/", &[], &[], Blocked("loopback")),
    ("a dot at the end", "https://127.0.0.1.:PORT/", &[], &[], Blocked("loopback")),
    ("wide digits", "https://１２７.0.0.1:PORT/", &[], &[], Blocked("loopback")),
    ("circled digits", "https://①②⑦.⓪.⓪.①:PORT/", &[], &[], Blocked("loopback")),
    ("another script's dot", "https://127。0。0。1:PORT/", &[], &[], Blocked("loopback")),
    ("encoded digits", "https://%31%32%37.0.0.1:PORT/", &[], &[], Blocked("loopback")),
    ("encoded dots", "https://127%2e0%2e0%2e1:PORT/", &[], &[], Blocked("loopback")),
    ("private", "https://10.0.0.1/", &[], &[], Blocked("private")),
    ("metadata", "https://169.254.169.254/latest/meta-data/", &[], &[], Blocked("metadata")),
    ("metadata, decimal", "https://2852039166/", &[], &[], Blocked("metadata")),
    ("metadata, octal", "https://0251.0376.0251.0376/", &[], &[], Blocked("metadata")),
    ("metadata, hexadecimal", "https://0xa9fea9fe/", &[], &[], Blocked("metadata")),
    ("metadata over http", "http://169.254.169.254/", &[], &[], Blocked("not https")),
    ("loopback IPv6", "https://[::1]:PORT/", &[], &[], Blocked("loopback")),
    ("loopback IPv6 in full", "https://[0:0:0:0:0:0:0:1]:PORT/", &[], &[], Blocked("loopback")),
    ("unspecified IPv6", "https://[::]:PORT/", &[], &[], Blocked("unspecified")),
    ("IPv4-mapped loopback", "https://[::ffff:127.0.0.1]:PORT/", &[], &[], Blocked("loopback")),
    ("IPv4-mapped, hexadecimal", "https://[::ffff:7f00:1]:PORT/", &[], &[], Blocked("loopback")),
    ("IPv4-compatible loopback", "https://[::127.0.0.1]:PORT/", &[], &[], Blocked("reserved")),
    ("NAT64 of metadata", "https://[64:ff9b::a9fe:a9fe]/", &[], &[], Blocked("metadata")),
    ("NAT64 of loopback, with dots", "https://[64:ff9b::127.0.0.1]:PORT/", &[], &[], Blocked("loopback")),
    ("IPv4-mapped metadata", "https://[::ffff:169.254.169.254]/", &[], &[], Blocked("metadata")),
    ("6to4 of metadata", "https://[2002:a9fe:a9fe::]/", &[], &[], Blocked("metadata")),
    ("Alibaba's metadata, decimal", "https://1684301000/", &[], &[], Blocked("carrier")),
    ("Azure's own services, hexadecimal", "https://0xa83f8110/", &[], &[], Blocked("cloud")),
    ("octal in an IPv6 address", "https://[::ffff:0177.0.0.1]/", &[], &[], Unsendable("not valid")),
    ("6to4 of a private address", "https://[2002:c0a8:101::]/", &[], &[], Blocked("private")),
    ("link-local IPv6", "https://[fe80::1]/", &[], &[], Blocked("link-local")),
    ("link-local IPv6 with a zone", "https://[fe80::1%25eth0]/", &[], &[], Unsendable("not valid")),
    ("metadata of AWS by IPv6", "https://[fd00:ec2::254]/", &[], &[], Blocked("private")),
    ("too large a number", "https://4294967296/", &[], &[], Unsendable("not valid")),
    ("too many parts", "https://127.0.0.0.1/", &[], &[], Unsendable("not valid")),
    ("allowed", "http://127.0.0.1:PORT/", &[], &["127.0.0.1"], Reached),
    ("allowed, decimal", "http://2130706433:PORT/", &[], &["127.0.0.1"], Reached),
    ("another one is allowed", "http://127.0.0.1:PORT/", &[], &["127.0.0.2"], Blocked("not https")),
    ("allowed by its name alone", "https://127.0.0.1:PORT/", &[], &["localhost"], Blocked("loopback")),
];

fn hosts_of(url: &str) -> Vec<HostPattern> {
    let mut hosts: Vec<_> = HOSTS.iter().map(|host| host.parse().unwrap()).collect();
    let parsed = reqwest::Url::parse(url).ok();
    let own = parsed.as_ref().and_then(|url| url.host_str()).and_then(|host| host.parse().ok());
    hosts.extend(own.filter(|own: &HostPattern| {
        own.to_string().trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
    }));
    hosts
}

#[tokio::test]
async fn the_guards_list() {
    let server = Counting::start().await;
    let dns = Dns::answering(&[]);
    // With a moment for connecting and none for a second attempt.
    let connect_timeout = Duration::from_millis(500);
    let timeout = Duration::from_millis(501);
    let mut callers = HashMap::new();
    let mut wrong = Vec::new();
    for (name, url, answer, allow, verdict) in [NAMES, ADDRESSES].concat() {
        let caller = callers.entry(allow).or_insert_with(|| {
            let allow = allow.iter().map(|host| host.parse().unwrap()).collect();
            caller_on(&dns, HttpSettings { connect_timeout, timeout, allow, ..settings() })
        });
        dns.answer(&[answer]);
        let url = url.replace("PORT", &server.port.to_string());
        let hosts = hosts_of(&url).into();
        let request =
            ProviderRequest { egress: Egress { hosts, is_named_by_operator: false }, ..get(url.clone()) };
        let before = server.connections().await;
        let outcome = caller.call(&request).await.map(|answer| answer.status);
        let connections = server.connections().await - before;
        let is_right = match (&outcome, verdict) {
            (Ok(200), Reached) => connections == 1,
            (Err(CallError::NotConnected { .. }), Tried) => connections == 0,
            (Err(CallError::Blocked { problem, .. }), Blocked(part))
            | (Err(CallError::Unsendable { problem, .. }), Unsendable(part)) => {
                problem.contains(part) && connections == 0
            }
            _ => false,
        };
        if !is_right {
            wrong.push(format!("{name}, {url}: {verdict:?}, not {outcome:?} with {connections} connections"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn an_address_is_never_looked_up() {
    let dns = Dns::answering(&[PUBLIC]);
    let caller = caller_on(&dns, settings());
    for url in ["https://127.0.0.2/", "https://2130706434/", "https://[::1]/"] {
        let hosts = hosts_of(url).into();
        let request =
            ProviderRequest { egress: Egress { hosts, is_named_by_operator: false }, ..get(url.into()) };
        let error = error_of(&caller, &request).await;
        assert!(matches!(error, CallError::Blocked { .. }), "{url}: {error:?}");
    }
    assert_eq!(dns.asked(), [""; 0]);
}

#[tokio::test]
async fn an_address_that_the_provider_does_not_name_is_not_its_host() {
    let caller = caller_on(&Dns::answering(&[]), settings());
    for url in ["https://93.184.215.14/", "https://[2606:2800:21f::1]/", "http://127.0.0.1/"] {
        let hosts = HOSTS.iter().map(|host| host.parse().unwrap()).collect();
        let request =
            ProviderRequest { egress: Egress { hosts, is_named_by_operator: false }, ..get(url.into()) };
        let error = error_of(&caller, &request).await;
        let CallError::Blocked { problem, .. } = error else { panic!("{url}: {error:?}") };
        assert!(problem.contains("not one of"), "{url}: {problem}");
    }
}

#[tokio::test]
async fn a_host_that_the_operator_wrote_may_be_called_without_tls_at_any_address() {
    let server = Counting::start().await;
    let dns = Dns::answering(&[&["127.0.0.1"]]);
    let caller = caller_on(&dns, HttpSettings { allow: Vec::new(), ..settings() });
    let mut request = get(format!("http://platform:{}/", server.port));
    let error = error_of(&caller, &request).await;
    assert!(matches!(error, CallError::Blocked { .. }), "{error:?}");
    request.egress.is_named_by_operator = true;
    assert_eq!(caller.call(&request).await.ok().unwrap().status, 200);
    // It is this host that was written, and no other.
    let egress = request.egress;
    let elsewhere = ProviderRequest { egress, ..get(format!("http://other:{}/", server.port)) };
    let error = error_of(&caller, &elsewhere).await;
    assert!(matches!(error, CallError::Blocked { .. }), "{error:?}");
}
