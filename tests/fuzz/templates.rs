//! Templates and the values that are put into them. Of an input the first line is the template, the rest the value.

use anyhow::{Result, ensure};
use freshet_shared::domain::provider::template::{Encoding, Template};
use freshet_shared::domain::secret::Secret;

use crate::campaign::{CANARY, Reading, Target, ensure_discreet};

pub(crate) const TARGET: Target = Target {
    name: "templates",
    dictionary: &[
        "{input.",
        "{environment.",
        "{secret.",
        "{setting.",
        "{token}",
        "{refresh_token}",
        "}",
        "{{",
        "}}",
        "{",
        "{}",
        "\n",
        "\r\n",
        "..",
        ".",
        "/",
        "?",
        "&",
        "=",
        "%",
        "%2F",
        "+",
        " ",
        "\"",
        "\\",
        "\u{7f}",
        "\u{0}",
        "é",
        "\u{202e}",
        "\u{10ffff}",
    ],
    seeds: Vec::new,
    read,
};

const ENCODINGS: [Encoding; 4] = [Encoding::Url, Encoding::Query, Encoding::Form, Encoding::Header];

fn read(input: &[u8]) -> Result<Reading> {
    let text = String::from_utf8_lossy(input);
    let (source, value) = text.split_once('\n').unwrap_or((&text, ""));
    let template = match Template::try_from(source.to_owned()) {
        Ok(template) => template,
        Err(error) => return Ok(Reading::Refused(error.to_string())),
    };
    ensure!(template.source() == source, "the template is not what it was");
    let value = format!("{CANARY}{value}");
    let has_places = template.variables().next().is_some();
    let mut is_refused = false;
    for encoding in ENCODINGS {
        match template.render(encoding, &|_| Ok(Secret::new(value.as_str()))) {
            Ok(rendered) => ensure_kept_in_place(encoding, source, rendered.expose())?,
            Err(failure) => {
                is_refused = true;
                ensure_discreet(&format!("{failure} {failure:?}"))?;
                ensure!(has_places, "a template without places is refused: {failure}");
            }
        }
    }
    Ok(Reading::Accepted(match (has_places, is_refused) {
        (false, _) => "text",
        (true, false) => "places",
        (true, true) => "places, and a value that cannot stand everywhere",
    }))
}

/// Nothing that a value holds may end the place where it stands.
fn ensure_kept_in_place(encoding: Encoding, source: &str, rendered: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    let kept = match encoding {
        Encoding::Query => rendered.bytes().all(is_plain),
        Encoding::Form => rendered.bytes().all(|byte| is_plain(byte) || byte == b'+'),
        // The definition's own words stand in it as they are.
        Encoding::Header => source.chars().any(char::is_control) || !rendered.chars().any(char::is_control),
        Encoding::Url => true,
    };
    ensure!(kept, "a value left its place as {encoding:?} of {source}: {rendered:?}");
    Ok(())
}
