//! Random DAGs.

use super::super::on_sqlite::Random;

const TRIGGERS: [&str; 8] = [
    "all_success",
    "all_done",
    "all_failed",
    "one_success",
    "one_failed",
    "none_failed",
    "none_failed_min_one_success",
    "always",
];

/// The text of a DAG of up to five tasks, which take slots of the pools `p` and `q`.
pub(super) fn random_dag(random: &mut Random, name: &str) -> String {
    let mut yaml = format!("dag: {name}\nmax_active_runs: {}\n", 1 + random.below(2));
    if random.below(2) == 0 {
        let (every, catch_up) = (60 + random.below(60), random.below(2) == 0);
        yaml.push_str(&format!("schedule: {{every: {every}s, catch_up: {catch_up}}}\n"));
    }
    if random.below(6) == 0 {
        yaml.push_str(&format!("timeout: {}s\n", 60 + random.below(120)));
    }
    yaml.push_str("tasks:\n");
    for task in 0..1 + random.below(5) {
        yaml.push_str(&format!("  t{task}: {{{}}}\n", random_task(random, task).join(", ")));
    }
    yaml
}

fn random_task(random: &mut Random, task: usize) -> Vec<String> {
    let needs: Vec<String> = (0..task).filter(|_| random.below(2) == 0).map(|need| format!("t{need}")).collect();
    let mut keys = vec!["job: x".to_owned(), format!("priority: {}", random.below(3))];
    if !needs.is_empty() {
        keys.push(format!("needs: [{}]", needs.join(", ")));
        if random.below(3) > 0 {
            keys.push(format!("trigger: {}", TRIGGERS[random.below(TRIGGERS.len())]));
        }
    }
    // Of a task that gave no output neither can be known, and the task fails.
    match (random.below(8), needs.first()) {
        (0 | 1, _) => keys.push(format!("map: '{{{{ range({}) | list }}}}'", random.below(4))),
        (2, Some(need)) => keys.push(format!("map: '{{{{ tasks.{need}.output }}}}'")),
        (3, Some(need)) => {
            keys.push(format!("when: '{{{{ tasks.{need}.output | length > {} }}}}'", random.below(2) * 2));
        }
        _ => {}
    }
    if random.below(4) == 0 {
        keys.push("parallelism: 1".to_owned());
    }
    match random.below(6) {
        0 | 1 => keys.push(format!("pool: p, slots: {}", 1 + random.below(2))),
        // Wider than its pool: it has the pool for itself.
        2 => keys.push(format!("pool: q, slots: {}", 1 + random.below(3))),
        _ => {}
    }
    keys.push(format!("retries: {}", random.below(3)));
    keys
}
