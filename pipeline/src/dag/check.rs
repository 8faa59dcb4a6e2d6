//! Checks of tasks against one another: their order, and that templates use only what is upstream.

use std::collections::{HashMap, HashSet, VecDeque};

use super::mistake::Collector;
use super::nearest::hint;
use super::read::{Draft, Use};
use super::task::Task;

/// Brings the tasks into topological order (that of the file where it is free) and fills in `downstream`. `needs` holds
/// tasks only, see [`super::links`].
pub(super) fn order(tasks: &mut Vec<Task>) {
    let index: HashMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (task.id.as_str(), at)).collect();
    let needs: Vec<Vec<usize>> = tasks
        .iter()
        .map(|task| task.needs.iter().filter_map(|need| index.get(need.as_str()).copied()).collect())
        .collect();
    // Circles were told before, with groups in them.
    let Ok(ordered) = sort(&needs) else { return };
    let mut position = vec![0; tasks.len()];
    for (at, task) in ordered.iter().enumerate() {
        position[*task] = at;
    }
    let mut downstream = vec![Vec::new(); tasks.len()];
    for (task, needs) in needs.iter().enumerate() {
        for need in needs {
            downstream[*need].push(position[task]);
        }
    }
    let mut old: Vec<Option<Task>> = tasks.drain(..).map(Some).collect();
    for task in ordered {
        let Some(mut moved) = old[task].take() else { continue };
        moved.downstream = std::mem::take(&mut downstream[task]);
        tasks.push(moved);
    }
}

/// Brings nodes into an order in which each comes after those that it needs; otherwise gives, for each node, how many
/// of its needs are in a circle or behind one.
pub(super) fn sort(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by = vec![Vec::new(); needs.len()];
    for (node, needs) in needs.iter().enumerate() {
        for need in needs {
            needed_by[*need].push(node);
        }
    }
    let mut free: VecDeque<usize> = (0..needs.len()).filter(|node| missing[*node] == 0).collect();
    let mut ordered = Vec::with_capacity(needs.len());
    while let Some(node) = free.pop_front() {
        ordered.push(node);
        for next in &needed_by[node] {
            missing[*next] -= 1;
            if missing[*next] == 0 {
                free.push_back(*next);
            }
        }
    }
    if ordered.len() == needs.len() { Ok(ordered) } else { Err(missing) }
}

/// Tells a trigger that asks about tasks before where there are none.
pub(super) fn triggers(tasks: &[Task], draft: &Draft, out: &mut Collector) {
    for task in tasks {
        let lost = draft.lost_needs.contains(&task.id);
        if task.needs.is_empty() && task.trigger.asks_about_needs() && !lost {
            let message = format!("task `{}` has `trigger: {}` but needs no task; add `needs`", task.id, task.trigger);
            out.add(task.places.trigger, message);
        }
    }
}

/// Tells every use of an output whose task is not upstream.
pub(super) fn uses(tasks: &[Task], draft: &Draft, out: &mut Collector) {
    let index: HashMap<&str, usize> = tasks.iter().enumerate().map(|(at, task)| (task.id.as_str(), at)).collect();
    let mut upstream_of: HashMap<&str, HashSet<usize>> = HashMap::new();
    for Use { user, used, place } in &draft.uses {
        let Some(used_at) = index.get(used.as_str()) else {
            out.add_with(*place, || {
                let near = hint(used, tasks.iter().map(|task| task.id.as_str()).filter(|other| other != user));
                format!("unknown task `{used}` in a template{near}")
            });
            continue;
        };
        let upstream = upstream_of.entry(user).or_insert_with(|| upstream(tasks, &index, user));
        if used == user {
            out.add(*place, format!("task `{user}` uses its own output; use that of a task that it needs"));
        } else if !upstream.contains(used_at) && !draft.lost_needs.contains(user) {
            out.add(
                *place,
                format!("task `{user}` uses the output of `{used}` but does not need it; add `{used}` to its `needs`"),
            );
        }
    }
}

/// Every task that must end before `id` starts.
fn upstream(tasks: &[Task], index: &HashMap<&str, usize>, id: &str) -> HashSet<usize> {
    let mut found = HashSet::new();
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        let Some(task) = index.get(id).map(|at| &tasks[*at]) else { continue };
        for need in &task.needs {
            if let Some(at) = index.get(need.as_str())
                && found.insert(*at)
            {
                open.push(need);
            }
        }
    }
    found
}
