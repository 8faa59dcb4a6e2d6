//! Checks of tasks against one another: no circles, and templates use only what is upstream.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Task;
use super::mistake::Collector;
use super::nearest::hint;
use super::read::{Draft, Use};

/// Brings the tasks into topological order (that of the file where it is free) and fills in `downstream`; a circle is a
/// mistake.
pub(super) fn order(tasks: &mut Vec<Task>, out: &mut Collector) {
    let index: HashMap<String, usize> = tasks.iter().enumerate().map(|(at, task)| (task.id.clone(), at)).collect();
    let needs: Vec<Vec<usize>> =
        tasks.iter().map(|task| task.needs.iter().filter_map(|need| index.get(need).copied()).collect()).collect();
    let mut missing: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut needed_by = vec![Vec::new(); tasks.len()];
    for (task, needs) in needs.iter().enumerate() {
        for need in needs {
            needed_by[*need].push(task);
        }
    }
    let mut free: VecDeque<usize> = (0..tasks.len()).filter(|task| missing[*task] == 0).collect();
    let mut ordered = Vec::with_capacity(tasks.len());
    while let Some(task) = free.pop_front() {
        ordered.push(task);
        for next in &needed_by[task] {
            missing[*next] -= 1;
            if missing[*next] == 0 {
                free.push_back(*next);
            }
        }
    }
    if ordered.len() < tasks.len() {
        tell_circles(tasks, &needs, &missing, out);
        return;
    }
    let mut position = vec![0; tasks.len()];
    for (at, task) in ordered.iter().enumerate() {
        position[*task] = at;
    }
    let mut old: Vec<Option<Task>> = tasks.drain(..).map(Some).collect();
    for task in ordered {
        let Some(mut moved) = old[task].take() else { continue };
        moved.downstream = needed_by[task].iter().map(|next| position[*next]).collect();
        tasks.push(moved);
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

/// Walks along needs among the tasks that never became free until a task comes again.
fn tell_circles(tasks: &[Task], needs: &[Vec<usize>], missing: &[usize], out: &mut Collector) {
    let mut told = HashSet::new();
    for start in (0..tasks.len()).filter(|task| missing[*task] > 0) {
        let mut path = Vec::new();
        let mut seen = HashMap::new();
        let mut at = start;
        let circle = loop {
            if told.contains(&at) {
                break None;
            }
            if let Some(from) = seen.insert(at, path.len()) {
                break Some(from);
            }
            path.push(at);
            let Some(next) = needs[at].iter().copied().find(|need| missing[*need] > 0) else { break None };
            at = next;
        };
        told.extend(path.iter().copied());
        let Some(from) = circle else { continue };
        let names: Vec<&str> = path[from..].iter().chain([&path[from]]).map(|task| tasks[*task].id.as_str()).collect();
        let shown =
            if names.len() > 12 { format!("{} → …", names[..12].join(" → ")) } else { names.join(" → ") };
        out.add(
            tasks[path[from]].places.id,
            format!("tasks need one another in a circle: {shown}; remove one of these needs"),
        );
    }
}
