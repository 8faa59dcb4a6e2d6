//! Tables that read well on a terminal and in Markdown, and their place in `docs/benchmarks.md`.

use std::fs;

use crate::error::{Error, Result};
use crate::results::{Report, Row};
use crate::workplace::Workplace;

const DOCUMENT: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Sections in the document's order.
const SECTIONS: [&str; 11] = [
    "job",
    "memory",
    "first",
    "forward",
    "orchestrator",
    "postgres",
    "kubernetes",
    "peers",
    "registry",
    "serving",
    "backup",
];

const HEADER: [&str; 8] = ["what", "Safari", "against", "its number", "unit", "ratio", "goal", "met"];

/// The rows of a report as a table, with where they come from above and remarks below.
pub(crate) fn render(report: &Report) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    lines.extend(report.rows.iter().map(cells));
    let widths: Vec<usize> =
        (0..HEADER.len()).map(|i| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = format!("{}\n\n", origin(report));
    for (number, line) in lines.iter().enumerate() {
        text.push_str(&format_line(line, &widths));
        if number == 0 {
            let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.push_str(&format!("|{}|\n", dashes.join("|")));
        }
    }
    for row in &report.rows {
        if let Some(note) = &row.note {
            text.push_str(&format!("\n- {}, against {}: {note}", row.what, row.against));
        }
    }
    text.trim_end().to_owned() + "\n"
}

/// Puts the saved tables between the document's two markers; a section without a saved one keeps the document's.
pub(crate) fn write(place: &Workplace) -> Result<()> {
    let path = place.root.join(DOCUMENT);
    let document = fs::read_to_string(&path).map_err(Error::io(&path))?;
    let (mut tables, mut measured) = (String::new(), false);
    for section in SECTIONS {
        if let Some(report) = Report::load(&place.root, section)? {
            measured = true;
            tables.push_str(&format!("\n{}\n{}", heading(section), render(&report)));
        } else if let Some(old) = old_table(&document, section) {
            tables.push_str(&format!("\n{}\n{old}\n", heading(section)));
        }
    }
    if !measured {
        return Err(Error::Missing("nothing was measured yet; run `make bench` first".to_owned()));
    }
    let document = replace(&document, &tables)
        .ok_or_else(|| Error::Missing(format!("{DOCUMENT} lacks the lines {BEGIN} and {END}")))?;
    fs::write(&path, document).map_err(Error::io(&path))?;
    println!("{DOCUMENT} has the newest tables");
    Ok(())
}

fn heading(section: &str) -> String {
    format!("### {section}")
}

/// What stands below a section's heading.
fn old_table<'a>(document: &'a str, section: &str) -> Option<&'a str> {
    let (_, tables) = document.split_once(BEGIN)?;
    let (tables, _) = tables.split_once(END)?;
    let (_, rest) = tables.split_once(&format!("\n{}\n", heading(section)))?;
    Some(rest.split("\n### ").next().unwrap_or(rest).trim())
}

fn replace(document: &str, tables: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

fn origin(report: &Report) -> String {
    let machine = &report.machine;
    let quick = if report.quick { ", cut short with --quick" } else { "" };
    format!(
        "{}, {} cores, {:.0} GiB; {}, commit {}{quick}",
        machine.processor, machine.cores, machine.memory_gib, report.date, report.commit
    )
}

fn cells(row: &Row) -> [String; 8] {
    let number = |number: Option<f64>| number.map_or_else(|| "–".to_owned(), format_number);
    let met = match row.met {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    };
    [
        row.what.clone(),
        number(row.ours),
        row.against.clone(),
        number(row.peer),
        row.unit.clone(),
        row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        row.goal.clone().unwrap_or_default(),
        met.to_owned(),
    ]
}

/// Three digits that matter.
fn format_number(number: f64) -> String {
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 0.01 || size == 0.0 => format!("{number:.2}"),
        _ => format!("{number:.1e}"),
    }
}

fn format_line(cells: &[String; 8], widths: &[usize]) -> String {
    let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, &width)| format!(" {cell:width$} ")).collect();
    format!("|{}|\n", padded.join("|"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let document = replace(&document, "new").unwrap();
        assert_eq!(document, format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert_eq!(replace(&document, "new").unwrap(), document);
        assert_eq!(replace("no markers", "new"), None);
    }

    #[test]
    fn a_table_that_was_not_measured_again_is_found() {
        let document = format!("{BEGIN}\n\n### job\nabout the job\n\n| a |\n\n### memory\n| b |\n\n{END}\nafter\n");
        assert_eq!(old_table(&document, "job"), Some("about the job\n\n| a |"));
        assert_eq!(old_table(&document, "memory"), Some("| b |"));
        assert_eq!(old_table(&document, "first"), None);
    }

    #[test]
    fn numbers_keep_three_digits() {
        let shown: Vec<String> = [1234.4, 17.44, 1.234, 0.0, 0.000_001_2].map(format_number).to_vec();
        assert_eq!(shown, ["1234", "17.4", "1.23", "0.00", "1.2e-6"]);
    }
}
