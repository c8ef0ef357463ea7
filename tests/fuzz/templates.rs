//! Templates and the values that are put into them. Of an input the first line is the template, the rest the value.

use anyhow::{Result, anyhow, ensure};
use freshet_shared::domain::failure::Failure;
use freshet_shared::domain::provider::template::{Encoding, Template, TemplateError, Variable};
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
        "{request.id}",
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

/// As long as most inputs may be.
const LONGEST_VALUE: usize = 255;

const ENCODINGS: [Encoding; 6] =
    [Encoding::Url, Encoding::Query, Encoding::Form, Encoding::Header, Encoding::Json, Encoding::Plain];

fn read(input: &[u8]) -> Result<Reading> {
    let text = String::from_utf8_lossy(input);
    let (source, value) = text.split_once('\n').unwrap_or((&text, ""));
    let template = match Template::try_from(source.to_owned()) {
        Ok(template) => template,
        Err(error) => {
            let kind = match error {
                TemplateError::Unbalanced { .. } => "unbalanced",
                TemplateError::UnknownVariable { .. } => "an unknown place",
            };
            return Ok(Reading::Refused(kind.to_owned()));
        }
    };
    ensure!(template.source() == source, "the template is not what it was");
    // A thousand places of a long value each would only show that much text takes its time.
    let value: String = value.chars().take(LONGEST_VALUE).collect();
    let steps_up = matches!(value.as_str(), "." | "..");
    let value = if steps_up { value } else { format!("{CANARY}{value}") };
    let has_places = template.variables().next().is_some();
    let mut is_refused = false;
    for encoding in ENCODINGS {
        match render(&template, encoding, &value) {
            Ok(rendered) => ensure_kept_in_place(&template, encoding, &value, &rendered)?,
            Err(failure) => {
                is_refused = true;
                ensure_discreet(&format!("{failure} {failure:?}"))?;
                ensure!(has_places, "a template without places is refused: {failure}");
            }
        }
    }
    let kind = |variable: &Variable| match variable {
        Variable::Input(_) => 'i',
        Variable::Environment(_) => 'e',
        Variable::Setting(_) => 's',
        Variable::Secret(_) => 'S',
        Variable::RefreshToken => 'r',
        Variable::RequestId => 'q',
        Variable::Token => 't',
    };
    let kinds: String = template.variables().take(4).map(kind).collect();
    Ok(Reading::Accepted(format!("{kinds} {is_refused}")))
}

fn render(template: &Template, encoding: Encoding, value: &str) -> Result<String, Failure> {
    template.render(encoding, &|_| Ok(Secret::new(value))).map(|rendered| rendered.expose().to_owned())
}

/// Nothing that a value holds may end the place where it stands.
fn ensure_kept_in_place(template: &Template, encoding: Encoding, value: &str, rendered: &str) -> Result<()> {
    let without =
        render(template, encoding, "").map_err(|failure| anyhow!("no value is refused: {failure}"))?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    let kept = match encoding {
        Encoding::Query => rendered.bytes().all(is_plain),
        Encoding::Form => rendered.bytes().all(|byte| is_plain(byte) || byte == b'+'),
        Encoding::Header => controls(rendered) == controls(&without),
        // What the operator sets for an environment may be a whole URL.
        Encoding::Url => {
            template.variables().any(is_operators) || delimiters(rendered) == delimiters(&without)
        }
        Encoding::Json => {
            let read = serde_json::from_str(&format!("\"{rendered}\"")).ok();
            read == render(template, Encoding::Plain, value).ok()
        }
        Encoding::Plain => true,
    };
    ensure!(kept, "a value left its place as {encoding:?} of {}: {rendered:?}", template.source());
    Ok(())
}

fn is_operators(variable: &Variable) -> bool {
    matches!(variable, Variable::Environment(_) | Variable::Setting(_))
}

fn controls(text: &str) -> usize {
    text.chars().filter(|character| character.is_control()).count()
}

fn delimiters(text: &str) -> usize {
    text.bytes().filter(|byte| b":/?#[]@!$&'()*+,;= \\".contains(byte)).count()
}
