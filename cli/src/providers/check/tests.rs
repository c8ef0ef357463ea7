//! Definitions with faults, and where the check sees them.

use super::*;

/// A definition that uses most of the format, on lines that the cases name.
const COMPLETE: &str = r#"name = "example"
title = "Example"
documentation = ["https://example.com/docs"]
integration_type = "77"
pool = "shared"
allowed_hosts = ["*.example.com"]

[environment]
choose_by = "useSandbox"
choices = { "true" = "sandbox", "false" = "production" }
default = "production"

[environments.production]
base_url = "https://api.example.com"

[environments.sandbox]
base_url = "https://sandbox.example.com"

[[inputs]]
key = "shop"
longest = 63

[[inputs]]
key = "user"
secret = true
default = "nobody"

[[secrets]]
key = "client_secret"

[token.request]
method = "POST"
url = "{environment.base_url}/token"
query = [["version", "2"], ["shop", "{input.shop}"]]
headers = [["x-shop", "{input.shop}"]]
basic = { username = "{input.user}", password = "{secret.client_secret}", encoding = "form" }

[token.request.json]
grant_type = "refresh_token"
nested = { refresh_token = "{refresh_token}", list = ["{input.user}", 7] }

[token.response]
success = { pointer = "/status", equals = "ok" }
access_token = "/access_token"
lifetime = [{ seconds = "/expires_in" }, "jwt", "unknown"]
error = "/error"

[[token.response.failures]]
status = 400
pointer = "/code"
one_of = ["A", "B"]
class = "invalid_grant"

[refresh_token]
rotation = { leeway = "60s" }
answer = "/refresh_token"
lifetime = { fixed = "90days" }
inactivity = "30d"

[limits]
rate = { requests = 2, per = "1s", burst = 10 }
concurrency = 16

[[authorizations]]
operations = ["order_push"]
value = "Bearer {token}"
"#;

fn file(name: &str, text: &str) -> DefinitionFile {
    DefinitionFile { name: name.to_owned(), text: text.to_owned(), is_shipped: false }
}

fn lines(text: &str) -> Vec<String> {
    check(&[file("example.toml", text)]).faults.iter().map(|(file, fault)| line(file, fault)).collect()
}

/// The line on which the text stands, from 1.
fn line_of(text: &str, part: &str) -> usize {
    text.lines().position(|line| line.contains(part)).map_or_else(|| panic!("no {part}"), |index| index + 1)
}

#[test]
fn a_definition_without_faults_has_none() {
    assert_eq!(lines(COMPLETE), Vec::<String>::new());
}

#[test]
fn the_shipped_definitions_have_no_fault() {
    let report = check(&super::super::definition_files(None, None).unwrap());
    assert!(report.files > 10);
    assert_eq!(report.faults, []);
}

#[test]
fn a_fault_has_its_line_its_key_and_a_suggestion() {
    // What to write in place of what, on which line it then is, under which key, and words of the message.
    let cases: &[(&str, &str, &str, &str, &[&str])] = &[
        ("title =", "titel =", "titel", "titel", &["did you mean `title`?"]),
        (
            "access_token = \"/a",
            "acces_token = \"/a",
            "acces_token",
            "token.response.acces_token",
            &["did you mean `access_token`?"],
        ),
        ("pool = \"shared\"", "colour = 1", "colour", "colour", &["is not a key", "there are name, title"]),
        ("longest = 63", "longst = 63", "longst", "inputs[0].longst", &["did you mean `longest`?"]),
        ("longest = 63", "longest = \"many\"", "longest", "inputs[0].longest", &["invalid type", "string"]),
        ("method = \"POST\"", "method = \"PSOT\"", "PSOT", "token.request.method", &["did you mean `POST`?"]),
        (
            "encoding = \"form\"",
            "encoding = \"from\"",
            "basic",
            "token.request.basic.encoding",
            &["did you mean `form`?"],
        ),
        (
            "class = \"invalid_grant\"",
            "class = \"invalid_grand\"",
            "invalid_grand",
            "token.response.failures[0].class",
            &["did you mean `invalid_grant`?"],
        ),
        (
            "{ seconds = \"/expires_in\" }",
            "{ secnds = \"/expires_in\" }",
            "secnds",
            "token.response.lifetime",
            &["not a lifetime"],
        ),
        (
            "{ fixed = \"90days\" }",
            "{ fixde = \"90days\" }",
            "fixde",
            "refresh_token.lifetime",
            &["not a lifetime", "did you mean `fixed`?"],
        ),
        (
            "{ leeway = \"60s\" }",
            "\"strickt\"",
            "strickt",
            "refresh_token.rotation",
            &["did you mean `strict`?"],
        ),
        (
            "url = \"{environment.base_url}/token\"",
            "url = \"{enviroment.base_url}/token\"",
            "enviroment",
            "token.request.url",
            &["is unknown", "did you mean `environment`?"],
        ),
        (
            "[\"x-shop\", \"{input.shop}\"]",
            "[\"x-shop\", \"{input.shopp}\"]",
            "x-shop",
            "token.request.headers.x-shop",
            &["is not declared", "did you mean `{input.shop}`?"],
        ),
        (
            "{secret.client_secret}",
            "{secret.client_secrte}",
            "basic",
            "token.request.basic.password",
            &["did you mean `{secret.client_secret}`?"],
        ),
        (
            "list = [\"{input.user}\", 7]",
            "list = [\"{inputs.user}\", 7]",
            "inputs.user",
            "token.request.json",
            &["is unknown"],
        ),
        (
            "default = \"production\"",
            "default = \"prodution\"",
            "prodution",
            "environment.default",
            &["did you mean `production`?"],
        ),
        (
            "error = \"/error\"",
            "error = \"error\"",
            "error = \"error\"",
            "token.response.error",
            &["JSON pointer"],
        ),
        (
            "answer = \"/refresh_token\"\n",
            "",
            "rotation",
            "refresh_token.rotation",
            &["refresh_token.answer"],
        ),
        ("per = \"1s\"", "per = \"soon\"", "rate", "limits.rate.per", &[]),
        (
            "\"*.example.com\"",
            "\"https://example.com\"",
            "allowed_hosts",
            "allowed_hosts[0]",
            &["host alone"],
        ),
        (
            "operations = [\"order_push\"]",
            "operations = []",
            "operations",
            "authorizations[0].operations",
            &["names no operation"],
        ),
    ];
    for (from, to, place, key, words) in cases {
        assert!(COMPLETE.contains(from), "{from}");
        let text = COMPLETE.replacen(from, to, 1);
        let found = lines(&text);
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        let expected = line_of(&text, place);
        assert!(found[0].starts_with(&format!("example.toml:{expected}:")), "{to}: {found:?}");
        assert!(found[0].contains(&format!(": {key}")), "{to}: {found:?}");
        for word in *words {
            assert!(found[0].contains(word), "{to}: no {word} in {found:?}");
        }
    }
}

#[test]
fn the_second_of_two_equal_keys_is_the_fault() {
    let once = "[[secrets]]\nkey = \"client_secret\"\n";
    let found = lines(&COMPLETE.replacen(once, &once.repeat(2), 1));
    let line = line_of(COMPLETE, "[[secrets]]") + 3;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0]
            .starts_with(&format!("example.toml:{line}:1: secrets[1].key: `client_secret` is there twice")),
        "{found:?}"
    );
}

#[test]
fn the_column_is_that_of_the_key() {
    let found =
        lines(&COMPLETE.replace("success = { pointer = \"/status\"", "success = { pointr = \"/status\""));
    let column = "success = { ".len() + 1;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains(&format!(":{column}: token.response.success.pointr")), "{found:?}");
}

#[test]
fn every_fault_is_found_and_not_only_the_first() {
    let text = COMPLETE
        .replacen("title", "titel", 1)
        .replacen("longest = 63", "longest = \"many\"", 1)
        .replacen("\"POST\"", "\"FETCH\"", 1)
        .replacen("{environment.base_url}", "{environment.}", 1)
        .replacen("[\"x-shop\", \"{input.shop}\"]", "[\"x-shop\", \"{input.sop}\"]", 1)
        .replacen("access_token = \"/access_token\"\n", "", 1)
        .replacen("\"jwt\", \"unknown\"", "\"jwt\", \"whenever\"", 1)
        .replacen("inactivity = \"30d\"", "inactivity = \"0s\"", 1)
        .replacen("default = \"production\"", "default = \"live\"", 1);
    let found = lines(&text);
    let expected = [
        ":2:1: titel: ",
        "environment.default: `live`",
        "inputs[0].longest: invalid type",
        "token.request.method: unknown variant `FETCH`",
        "token.request.url: `{environment.}`",
        "token.request.headers.x-shop: `{input.sop}` is not declared",
        "token.response.access_token: is missing",
        "token.response.lifetime: not a lifetime",
        "refresh_token.inactivity: must be more than 0",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{expected} is not in {found}");
    }
}

#[test]
fn every_key_that_a_definition_needs_is_missed_by_name() {
    let required = [
        ("name = \"example\"\n", "name"),
        ("title = \"Example\"\n", "title"),
        ("default = \"production\"\n", "environment.default"),
        ("key = \"shop\"\n", "inputs[0].key"),
        ("key = \"client_secret\"\n", "secrets[0].key"),
        ("method = \"POST\"\n", "token.request.method"),
        ("url = \"{environment.base_url}/token\"\n", "token.request.url"),
        ("username = \"{input.user}\", ", "token.request.basic.username"),
        ("password = \"{secret.client_secret}\", ", "token.request.basic.password"),
        (", encoding = \"form\"", "token.request.basic.encoding"),
        ("pointer = \"/status\", ", "token.response.success.pointer"),
        (", equals = \"ok\"", "token.response.success.equals"),
        ("access_token = \"/access_token\"\n", "token.response.access_token"),
        ("lifetime = [{ seconds = \"/expires_in\" }, \"jwt\", \"unknown\"]\n", "token.response.lifetime"),
        ("class = \"invalid_grant\"\n", "token.response.failures[0].class"),
        ("rotation = { leeway = \"60s\" }\n", "refresh_token.rotation"),
        ("requests = 2, ", "limits.rate.requests"),
        ("per = \"1s\", ", "limits.rate.per"),
        ("operations = [\"order_push\"]\n", "authorizations[0].operations"),
        ("value = \"Bearer {token}\"\n", "authorizations[0].value"),
    ];
    for (part, key) in required {
        assert!(COMPLETE.contains(part), "{part}");
        let found = lines(&COMPLETE.replacen(part, "", 1));
        assert_eq!(found.len(), 1, "{key}: {found:#?}");
        assert!(found[0].contains(&format!(": {key}: is missing")), "{key}: {found:?}");
        // A second fault elsewhere is found all the same.
        let found = lines(&COMPLETE.replacen(part, "", 1).replacen("pool =", "pol =", 1));
        assert_eq!(found.len(), 2, "{key}: {found:#?}");
    }
    let found = lines("");
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn what_is_no_toml_has_a_line_too() {
    let found = lines(&COMPLETE.replacen("pool = \"shared\"", "pool = shared", 1));
    assert!(!found.is_empty() && found[0].starts_with("example.toml:5:"), "{found:?}");
    assert!(lines("\u{0}[[[").len() < 10);
}

#[test]
fn names_and_integration_types_belong_to_one_definition_each() {
    let other = COMPLETE.replacen("\"example\"", "\"other\"", 1);
    let third = COMPLETE.replacen("\"77\"", "\"78\"", 1);
    let files = [file("a.toml", COMPLETE), file("b.toml", &other), file("c.toml", &third)];
    let found: Vec<String> = check(&files).faults.iter().map(|(file, fault)| line(file, fault)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("c.toml:1:1: name: `example` is the name of a.toml too"), "{found:?}");

    let files = [file("a.toml", COMPLETE), file("b.toml", &other)];
    let found: Vec<String> = check(&files).faults.iter().map(|(file, fault)| line(file, fault)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("b.toml:4:1: integration_type: `77` is the type of a.toml too"),
        "{found:?}"
    );
}

#[test]
fn an_operators_definition_takes_the_place_of_a_shipped_one() {
    let shipped = DefinitionFile { is_shipped: true, ..file("example.toml", COMPLETE) };
    let report = check(&[shipped, file("/etc/own.toml", COMPLETE)]);
    assert_eq!((report.files, report.faults.len()), (2, 0), "{:?}", report.faults);
}
