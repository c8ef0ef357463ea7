//! `freshet providers check`: every fault of every definition, with its place.

mod placeholder;
mod reading;
mod suggestion;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use reading::Fault;
use reading::Reading;

use super::files::DefinitionFile;

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// How many files were read.
    pub files: usize,
    /// The faults, by file and in the order of their lines.
    pub faults: Vec<(String, Fault)>,
}

/// Checks each file by itself, then all of them together. A file of the operator's takes the place of a shipped one of
/// the same name, which is then left out of account.
pub fn check(files: &[DefinitionFile]) -> CheckReport {
    let mut report = CheckReport { files: files.len(), faults: Vec::new() };
    let mut readings: Vec<_> = files.iter().map(|file| (file, Reading::of(&file.text))).collect();

    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for index in 0..readings.len() {
        let Some((_, (reading, Some(definition)))) = readings.get(index) else { continue };
        if !reading.is_as_written() {
            continue;
        }
        let name = definition.name.clone();
        let Some(earlier) = names.insert(name.clone(), index) else { continue };
        let Some((earlier, _)) = readings.get(earlier) else { continue };
        if !earlier.is_shipped {
            let problem =
                format!("`{name}` is the name of {} too: give each definition its own", earlier.name);
            if let Some((_, (reading, _))) = readings.get_mut(index) {
                reading.add("name", problem);
            }
        }
    }

    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for index in names.into_values() {
        let Some((_, (_, Some(definition)))) = readings.get(index) else { continue };
        let Some(integration_type) = definition.integration_type.clone() else { continue };
        let Some(first) = types.get(&integration_type).copied() else {
            types.insert(integration_type, index);
            continue;
        };
        let (first, index) = if first < index { (first, index) } else { (index, first) };
        let Some((other, _)) = readings.get(first) else { continue };
        let problem =
            format!("`{integration_type}` is the type of {} too: give each provider its own", other.name);
        if let Some((_, (reading, _))) = readings.get_mut(index) {
            reading.add("integration_type", problem);
        }
    }

    for (file, (mut reading, _)) in readings {
        reading.faults.sort_by_key(|fault| (fault.line, fault.column));
        report.faults.extend(reading.faults.into_iter().map(|fault| (file.name.clone(), fault)));
    }
    report
}

impl CheckReport {
    /// Prints a line per fault and one at the end.
    #[expect(clippy::print_stdout, reason = "the report is what was asked for")]
    pub fn print(&self) {
        for (file, fault) in &self.faults {
            println!("{}", line(file, fault));
        }
        let count =
            |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        println!("{}, {}", count(self.files, "definition"), count(self.faults.len(), "fault"));
    }
}

/// As compilers write it, so that editors find the place.
fn line(file: &str, fault: &Fault) -> String {
    let Fault { line, column, key, problem } = fault;
    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
    format!("{file}:{line}:{column}: {key}{problem}")
}
