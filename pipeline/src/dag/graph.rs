//! The shape of a DAG as a Mermaid flowchart.

use std::fmt::Write;

use super::task::Task;
use super::{Dag, TriggerRule};

/// One node a task, one box a group, one arrow a need. Mapped tasks have a double border; an arrow into a task whose
/// `trigger` is not the default carries its name.
pub(super) fn mermaid(dag: &Dag) -> String {
    let mut text = String::from("flowchart LR\n");
    for task in dag.tasks().iter().filter(|task| task.group.is_none()) {
        node(&mut text, "  ", task);
    }
    for group in &dag.groups {
        line(&mut text, format_args!("  subgraph group_{0} [{0}]", group.name));
        for task in dag.tasks_in(&group.name) {
            node(&mut text, "    ", task);
        }
        line(&mut text, format_args!("  end"));
    }
    for task in dag.tasks() {
        for need in &task.needs {
            match task.trigger {
                TriggerRule::AllSuccess => line(&mut text, format_args!("  task_{need} --> task_{}", task.id)),
                rule => line(&mut text, format_args!("  task_{need} -->|{rule}| task_{}", task.id)),
            }
        }
    }
    text
}

/// Names hold letters, digits and `_` only; the prefix keeps words of Mermaid such as `end` out.
fn node(text: &mut String, indent: &str, task: &Task) {
    let (open, close) = if task.map.is_some() { ("[[", "]]") } else { ("[", "]") };
    line(text, format_args!("{indent}task_{0}{open}{0}{close}", task.id));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::dag::Dag;

    #[test]
    fn shows_tasks_groups_and_needs() {
        let yaml = "dag: d\ngroups: {prepare: {}}\ntasks:\n  end: {job: x, needs: [prepare]}\n  \
                    a: {job: x, group: prepare}\n  b: {job: x, map: [1], group: prepare, needs: [a], trigger: all_done}\n";
        let expected = "flowchart LR\n  task_end[end]\n  subgraph group_prepare [prepare]\n    task_a[a]\n    \
                        task_b[[b]]\n  end\n  task_a -->|all_done| task_b\n  task_a --> task_end\n  \
                        task_b --> task_end\n";
        assert_eq!(Dag::parse("d.yaml", yaml).unwrap().graph_text(), expected);
    }
}
