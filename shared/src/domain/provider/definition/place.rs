//! A TOML document with the place of every key and value in its text.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
pub type Node<'i> = Spanned<DeValue<'i>>;

/// One step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a member.
    Key(String),
    /// To an item.
    Index(usize),
}

/// The way from the document to a value, as `token.request.query[0][1]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPath(pub Vec<Step>);

impl fmt::Display for KeyPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => write!(formatter, "{key}")?,
                Step::Key(key) => write!(formatter, ".{key}")?,
                Step::Index(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl KeyPath {
    /// The way to a member of it.
    pub fn member(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.into()));
        Self(steps)
    }

    /// The way to what holds it, and the last step.
    pub fn split(&self) -> Option<(Self, &Step)> {
        let (last, before) = self.0.split_last()?;
        Some((Self(before.to_vec()), last))
    }

    /// Whether one of both leads through the other.
    pub fn touches(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(one, two)| one == two)
    }

    /// Reads a path as people write it. Keys may hold dots, and a pair of a list like `query` is found by its name, so
    /// the document says what is meant: the longest key that is there. What is not there ends the way.
    pub fn parse(text: &str, root: &DeTable<'_>) -> Self {
        let mut steps = Vec::new();
        let mut rest = text;
        let Some((key, value, mut after)) = longest_key(root, rest) else { return Self(steps) };
        steps.push(Step::Key(key));
        let mut node = value;
        while !after.is_empty() {
            rest = after.strip_prefix('.').unwrap_or(after);
            let next = match node.get_ref() {
                DeValue::Table(table) => {
                    longest_key(table, rest).map(|(key, value, after)| (Step::Key(key), value, after))
                }
                DeValue::Array(items) => numbered(items, rest).or_else(|| named_pair(items, rest)),
                _ => None,
            };
            let Some((step, value, remaining)) = next else { break };
            steps.push(step);
            node = value;
            after = remaining;
        }
        Self(steps)
    }
}

fn longest_key<'t, 'i, 's>(table: &'t DeTable<'i>, text: &'s str) -> Option<(String, &'t Node<'i>, &'s str)> {
    table
        .iter()
        .filter_map(|(key, value)| {
            let after = text.strip_prefix(key.get_ref().as_ref())?;
            (after.is_empty() || after.starts_with(['.', '[']))
                .then(|| (key.get_ref().to_string(), value, after))
        })
        .max_by_key(|(key, ..)| key.len())
}

fn numbered<'t, 'i, 's>(items: &'t [Node<'i>], text: &'s str) -> Option<(Step, &'t Node<'i>, &'s str)> {
    let (number, after) = text.strip_prefix('[')?.split_once(']')?;
    let index = number.parse().ok()?;
    Some((Step::Index(index), items.get(index)?, after))
}

/// A pair's place is that of its value.
fn named_pair<'t, 'i, 's>(items: &'t [Node<'i>], text: &'s str) -> Option<(Step, &'t Node<'i>, &'s str)> {
    let is_named =
        |item: &Node<'_>| item.get_ref().get(0).and_then(|name| name.get_ref().as_str()) == Some(text);
    let index = items.iter().position(is_named)?;
    Some((Step::Index(index), items.get(index)?, ""))
}

/// The value at the end of the way.
pub fn find<'t, 'i>(root: &'t Node<'i>, path: &KeyPath) -> Option<&'t Node<'i>> {
    path.0.iter().try_fold(root, |node, step| match step {
        Step::Key(key) => node.get_ref().get(key.as_str()),
        Step::Index(index) => node.get_ref().get(*index),
    })
}

/// The same, to be changed.
pub fn find_mut<'t, 'i>(root: &'t mut Node<'i>, path: &KeyPath) -> Option<&'t mut Node<'i>> {
    path.0.iter().try_fold(root, |node, step| match (step, node.get_mut()) {
        (Step::Key(key), DeValue::Table(table)) => table.get_mut(key.as_str()),
        (Step::Index(index), DeValue::Array(items)) => items.get_mut(*index),
        _ => None,
    })
}

/// The byte at which the reader should look: the key where there is one, else the value, else the nearest thing that
/// holds it and has a place.
pub fn position(root: &Node<'_>, path: &KeyPath) -> usize {
    let Some((parent, last)) = path.split() else { return root.span().start };
    let place = match (find(root, &parent).map(Spanned::get_ref), last) {
        (Some(DeValue::Table(table)), Step::Key(key)) => {
            table.get_key_value(key.as_str()).map(|(key, _)| key.span().start)
        }
        (Some(DeValue::Array(items)), Step::Index(index)) => items.get(*index).map(|item| item.span().start),
        _ => None,
    };
    place.unwrap_or_else(|| position(root, &parent))
}

/// The first text in a value that holds `part`.
pub fn text_with(node: &Node<'_>, part: &str) -> Option<usize> {
    match node.get_ref() {
        DeValue::String(text) => text.contains(part).then(|| node.span().start),
        DeValue::Array(items) => items.iter().find_map(|item| text_with(item, part)),
        DeValue::Table(table) => table.values().find_map(|value| text_with(value, part)),
        _ => None,
    }
}

/// Line and column of a byte, counted from 1.
pub fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Line and column, from 1, at which the reader of a document should look for a key; the document's beginning where it is
/// no TOML.
pub fn line_and_column_of(key: &str, text: &str) -> (usize, usize) {
    let Ok(document) = DeTable::parse(text) else { return (1, 1) };
    let path = KeyPath::parse(key, document.get_ref());
    let root = Spanned::new(document.span(), DeValue::Table(document.into_inner()));
    line_and_column(text, position(&root, &path))
}
