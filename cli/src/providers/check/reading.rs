//! Reading a definition to its end: every fault of its form, then every contradiction.
//!
//! Serde ends at the first fault. So the document is read again and again, and after each fault what it was about is
//! put right or out of the way. What only follows from that is not reported.

use freshet_shared::domain::provider::definition::Definition;
use freshet_shared::domain::provider::definition::place::{
    KeyPath, Node, Step, find, find_mut, line_and_column, position, text_with,
};
use serde_path_to_error::{Path, Segment};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::placeholder::placeholder;
use super::suggestion::{expected, nearest, words};

/// A file can hold no more faults than this; it only keeps a mistake of ours from reading forever.
const MOST_FAULTS: usize = 500;

/// A fault of a definition and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The key; empty where the document is no TOML there.
    pub key: String,
    /// What is wrong with it, and what was probably meant.
    pub problem: String,
}

/// A definition as far as it could be read.
pub(super) struct Reading<'i> {
    text: &'i str,
    /// As written, to find places in.
    written: Node<'i>,
    /// Put right on the way.
    mended: Node<'i>,
    /// What is not as written any more.
    damaged: Vec<KeyPath>,
    pub(super) faults: Vec<Fault>,
}

impl<'i> Reading<'i> {
    /// Reads the text; the definition is there if it could be read, with or without faults.
    pub(super) fn of(text: &'i str) -> (Self, Option<Definition>) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let root = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
        let mut reading =
            Self { text, written: root.clone(), mended: root, damaged: Vec::new(), faults: Vec::new() };
        if !errors.is_empty() {
            // A document that is no TOML means nothing yet.
            for error in errors {
                let byte = error.span().map_or(0, |span| span.start);
                reading.report(byte, String::new(), error.message().to_owned());
            }
            return (reading, None);
        }
        let definition = reading.read();
        if let Some(definition) = &definition {
            reading.contradictions(definition);
        }
        (reading, definition)
    }

    /// Whether nothing had to be put right.
    pub(super) fn is_as_written(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Adds a fault under a key of the document.
    pub(super) fn add(&mut self, key: &str, problem: String) {
        let path = self.path(key);
        let byte = position(&self.written, &path);
        self.report(byte, key.to_owned(), problem);
    }

    fn read(&mut self) -> Option<Definition> {
        for _ in 0..MOST_FAULTS {
            let DeValue::Table(table) = self.mended.get_ref().clone() else { return None };
            let document = Deserializer::from(Spanned::new(self.mended.span(), table));
            let error = match serde_path_to_error::deserialize(document) {
                Ok(definition) => return Some(definition),
                Err(error) => error,
            };
            let path = key_path(error.path());
            let message = error.inner().message().to_owned();
            if !self.mend(&path, &message) {
                return None;
            }
        }
        None
    }

    /// Reports a fault and puts it out of the way. `false` where that cannot be done.
    fn mend(&mut self, path: &KeyPath, message: &str) -> bool {
        if let Some(field) = between(message, "missing field `", "`") {
            return self.missing(path, field);
        }
        if message.starts_with("unknown field") {
            return self.unknown(path, message);
        }
        self.wrong(path, message)
    }

    fn missing(&mut self, path: &KeyPath, field: &str) -> bool {
        let here = path.member(field);
        // What a missing table would have to hold is missing with it.
        if !self.damaged.iter().any(|damaged| path.0.starts_with(&damaged.0)) {
            self.report(position(&self.written, path), here.to_string(), "is missing".into());
        }
        let Some(value) = placeholder(field).and_then(|text| DeValue::parse(text).ok()) else { return false };
        let Some(table) = table_mut(&mut self.mended, path) else { return false };
        table.insert(Spanned::new(0..0, field.to_owned().into()), value);
        self.damaged.push(here);
        true
    }

    fn unknown(&mut self, path: &KeyPath, message: &str) -> bool {
        let Some((parent, Step::Key(key))) = path.split() else { return false };
        let meant = nearest(key, expected(message));
        let problem = match meant {
            Some(meant) => format!("is not a key of a definition: did you mean `{meant}`?"),
            None => format!("is not a key of a definition: there are {}", list(expected(message))),
        };
        self.report(position(&self.written, path), path.to_string(), problem);
        let Some(table) = table_mut(&mut self.mended, &parent) else { return false };
        let Some((key, value)) = table.remove_entry(key.as_str()) else { return false };
        if let Some(meant) = meant.filter(|meant| !table.contains_key(*meant)) {
            table.insert(Spanned::new(key.span(), meant.to_owned().into()), value);
        }
        true
    }

    fn wrong(&mut self, path: &KeyPath, message: &str) -> bool {
        let node = find(&self.written, path);
        let quoted = between(message, "`", "`").unwrap_or_default();
        let byte = node
            .filter(|_| !quoted.is_empty())
            .and_then(|node| text_with(node, quoted))
            .unwrap_or_else(|| position(&self.written, path));
        let meant = node.and_then(|node| meant_by(node.get_ref(), message));
        let problem = match meant {
            Some(meant) => format!("{message}: did you mean `{meant}`?"),
            None => message.to_owned(),
        };
        self.report(byte, path.to_string(), problem);
        let was_damaged = self.damaged.contains(path);
        self.damaged.push(path.clone());
        // A second fault at the same place is one of the placeholder: then it has to go.
        if was_damaged { self.remove(path) } else { self.replace(path) || self.remove(path) }
    }

    fn replace(&mut self, path: &KeyPath) -> bool {
        let text = match path.split() {
            Some((_, Step::Key(key))) => placeholder(key),
            // A pair's value, or a text in a list.
            Some((_, Step::Index(_))) => {
                find(&self.mended, path).filter(|node| node.get_ref().is_str()).map(|_| "\"placeholder\"")
            }
            None => None,
        };
        let Some(value) = text.and_then(|text| DeValue::parse(text).ok()) else { return false };
        let Some(node) = find_mut(&mut self.mended, path) else { return false };
        *node = value;
        true
    }

    fn remove(&mut self, path: &KeyPath) -> bool {
        let Some((parent, last)) = path.split() else { return false };
        let Some(holder) = find_mut(&mut self.mended, &parent) else { return self.remove(&parent) };
        match (holder.get_mut(), last) {
            (DeValue::Table(table), Step::Key(key)) => table.remove(key.as_str()).is_some(),
            (DeValue::Array(items), Step::Index(index)) if *index < items.len() => {
                *items = items
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| at != index)
                    .map(|(_, item)| item.clone())
                    .collect();
                true
            }
            _ => self.remove(&parent),
        }
    }

    fn contradictions(&mut self, definition: &Definition) {
        for fault in definition.faults() {
            let path = self.path(&fault.key);
            if self.is_consequence(&path, &fault.problem) {
                continue;
            }
            let meant = self.declared(definition, &fault.problem);
            let problem = match meant {
                Some(meant) => format!("{}; did you mean `{meant}`?", fault.problem),
                None => fault.problem,
            };
            self.report(position(&self.written, &path), fault.key, problem);
        }
    }

    /// Whether a contradiction is about something that was put out of the way.
    fn is_consequence(&self, path: &KeyPath, problem: &str) -> bool {
        self.damaged.iter().any(|damaged| {
            let first = damaged.0.first();
            // What a table declares is in doubt where the whole of it, an entry of it, or an entry's key was.
            let declares = damaged.0.len() < 3 || damaged.0.last() == Some(&Step::Key("key".into()));
            let is_named =
                declares && matches!(first, Some(Step::Key(key)) if problem.contains(&format!("[{key}]")));
            let is_request =
                damaged.to_string().starts_with("token.request") && problem.contains("token.request has");
            damaged.touches(path) || is_named || is_request
        })
    }

    /// What a contradiction's word was probably meant to be, among what the definition declares.
    fn declared(&self, definition: &Definition, problem: &str) -> Option<String> {
        let word = between(problem, "`", "`")?;
        let name = word.trim_matches(['{', '}']);
        let inputs = definition.inputs.iter().map(|input| format!("input.{}", input.key));
        let secrets = definition.secrets.iter().map(|secret| format!("secret.{}", secret.key));
        let candidates: Vec<String> = if name == word {
            definition.environments.keys().cloned().collect()
        } else {
            inputs.chain(secrets).collect()
        };
        nearest(name, candidates.iter().map(String::as_str))
            .filter(|meant| *meant != name)
            .map(|meant| if name == word { meant.to_owned() } else { format!("{{{meant}}}") })
    }

    fn path(&self, key: &str) -> KeyPath {
        match self.written.get_ref() {
            DeValue::Table(table) => KeyPath::parse(key, table),
            _ => KeyPath::default(),
        }
    }

    fn report(&mut self, byte: usize, key: String, problem: String) {
        let (line, column) = line_and_column(self.text, byte);
        self.faults.push(Fault { line, column, key, problem });
    }
}

fn key_path(path: &Path) -> KeyPath {
    KeyPath(
        path.iter()
            .filter_map(|segment| match segment {
                Segment::Map { key } => Some(Step::Key(key.clone())),
                Segment::Enum { variant } => Some(Step::Key(variant.clone())),
                Segment::Seq { index } => Some(Step::Index(*index)),
                Segment::Unknown => None,
            })
            .collect(),
    )
}

fn table_mut<'t, 'i>(root: &'t mut Node<'i>, path: &KeyPath) -> Option<&'t mut DeTable<'i>> {
    match find_mut(root, path)?.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(begin)?;
    after.split_once(end).map(|(inside, _)| inside)
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// What a wrong value, or the first key of a wrong table, was probably meant to be, among the words of the message.
fn meant_by<'m>(value: &DeValue<'_>, message: &'m str) -> Option<&'m str> {
    let word = match value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Table(table) => table.keys().next()?.get_ref().as_ref(),
        _ => return None,
    };
    if let Some(place) = between(message, "`{", "}`") {
        // A place of a template: what may stand there is named by its first part.
        let (kind, key) = place.split_once('.')?;
        let meant = nearest(kind, words(message).filter(|word| *word != kind))?;
        return (!key.is_empty()).then_some(meant);
    }
    let candidates = expected(message).chain(words(message)).filter(|candidate| *candidate != word);
    nearest(word, candidates)
}
