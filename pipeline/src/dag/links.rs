//! What tasks need through groups: a group in `needs` stands for all its tasks, and its own needs hold for each of them.

use std::collections::{HashMap, HashSet};

use super::check::sort;
use super::mistake::{Collector, Place};
use super::starts::Group;
use super::task::Task;

/// More links between tasks are a slip that would cost much memory: two groups of a thousand tasks have a million.
const MOST_LINKS: usize = 500_000;

/// Replaces groups in the needs of tasks by their tasks. Mistakes: circles, groups without tasks, too many links. Gives
/// whether the needs hold tasks only; otherwise nothing can be said about what is upstream.
pub(super) fn resolve(tasks: &mut [Task], groups: &[Group], out: &mut Collector) -> bool {
    let names = Names::new(tasks, groups);
    for (at, group) in groups.iter().enumerate() {
        if names.members[at].is_empty() {
            let message = format!("group `{0}` has no tasks; write `group: {0}` in a task, or remove it", group.name);
            out.add(group.place, message);
        }
    }
    let graph = Graph::new(tasks, groups, &names);
    if let Err(missing) = sort(&graph.needs) {
        graph.tell_circles(&missing, out);
        return groups.is_empty();
    }
    if groups.is_empty() {
        return true;
    }
    let mut links = 0;
    let mut all = Vec::with_capacity(tasks.len());
    for task in tasks.iter() {
        let group = task.group.as_ref().and_then(|group| names.groups.get(group.as_str()));
        let of_group = group.map_or(&[][..], |group| &groups[*group].needs);
        let needs = names.tasks_of(task.needs.iter().chain(of_group), tasks);
        links += needs.len();
        if links > MOST_LINKS {
            let message =
                format!("the tasks need one another more than {MOST_LINKS} times; put a task between two large groups");
            out.add(task.places.id, message);
            return false;
        }
        all.push(needs);
    }
    for (task, needs) in tasks.iter_mut().zip(all) {
        task.needs = needs;
    }
    true
}

/// Where tasks and groups stand.
struct Names {
    tasks: HashMap<String, usize>,
    groups: HashMap<String, usize>,
    /// The tasks of each group.
    members: Vec<Vec<usize>>,
}

impl Names {
    fn new(tasks: &[Task], groups: &[Group]) -> Self {
        let groups: HashMap<String, usize> =
            groups.iter().enumerate().map(|(at, group)| (group.name.clone(), at)).collect();
        let mut members = vec![Vec::new(); groups.len()];
        for (at, task) in tasks.iter().enumerate() {
            if let Some(group) = task.group.as_ref().and_then(|group| groups.get(group)) {
                members[*group].push(at);
            }
        }
        let tasks = tasks.iter().enumerate().map(|(at, task)| (task.id.clone(), at)).collect();
        Self { tasks, groups, members }
    }

    /// The tasks that these names stand for, each once.
    fn tasks_of<'a>(&self, names: impl Iterator<Item = &'a String>, tasks: &[Task]) -> Vec<String> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        for name in names {
            let one = self.tasks.get(name).map(std::slice::from_ref);
            let many = self.groups.get(name).map(|group| self.members[*group].as_slice());
            for task in one.or(many).unwrap_or_default() {
                if seen.insert(*task) {
                    found.push(tasks[*task].id.clone());
                }
            }
        }
        found
    }
}

/// Tasks, and for each group a node that comes before its tasks and one that comes after them.
struct Graph {
    labels: Vec<String>,
    places: Vec<Place>,
    needs: Vec<Vec<usize>>,
}

impl Graph {
    fn new(tasks: &[Task], groups: &[Group], names: &Names) -> Self {
        let before = |group: usize| tasks.len() + 2 * group;
        let after = |group: usize| before(group) + 1;
        let nodes_of = |needs: &[String]| -> Vec<usize> {
            let task = |need: &String| names.tasks.get(need).copied();
            let group = |need: &String| names.groups.get(need).map(|group| after(*group));
            needs.iter().filter_map(|need| task(need).or_else(|| group(need))).collect()
        };
        let mut graph = Self { labels: Vec::new(), places: Vec::new(), needs: Vec::new() };
        for task in tasks {
            let mut needs = nodes_of(&task.needs);
            needs.extend(task.group.as_ref().and_then(|group| names.groups.get(group)).map(|group| before(*group)));
            graph.add(task.id.clone(), task.places.id, needs);
        }
        for (at, group) in groups.iter().enumerate() {
            let label = format!("group {}", group.name);
            graph.add(label.clone(), group.place, nodes_of(&group.needs));
            graph.add(label, group.place, names.members[at].clone());
        }
        graph
    }

    fn add(&mut self, label: String, place: Place, needs: Vec<usize>) {
        self.labels.push(label);
        self.places.push(place);
        self.needs.push(needs);
    }

    /// Walks along needs among the nodes that never became free until one comes again.
    fn tell_circles(&self, missing: &[usize], out: &mut Collector) {
        let mut told = HashSet::new();
        for start in (0..self.needs.len()).filter(|node| missing[*node] > 0) {
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
                let Some(next) = self.needs[at].iter().copied().find(|need| missing[*need] > 0) else { break None };
                at = next;
            };
            told.extend(path.iter().copied());
            let Some(from) = circle else { continue };
            let names: Vec<&str> =
                path[from..].iter().chain([&path[from]]).map(|node| self.labels[*node].as_str()).collect();
            let shown =
                if names.len() > 12 { format!("{} → …", names[..12].join(" → ")) } else { names.join(" → ") };
            out.add(
                self.places[path[from]],
                format!("tasks need one another in a circle: {shown}; remove one of these needs"),
            );
        }
    }
}
