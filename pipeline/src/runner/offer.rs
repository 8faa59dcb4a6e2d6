//! What a worker offers to tasks.

use std::collections::BTreeMap;

use crate::dag::Resources;

/// Labels and resources of a worker. Tasks that ask for more than it has are left to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// A task's labels must all be among these, with the same values.
    pub labels: BTreeMap<String, String>,
    /// Shared by the tasks that run at the same time.
    pub resources: Resources,
}

impl Offer {
    /// What this process may use of its machine: processor cores and memory as far as its control group lets it, and the
    /// GPUs of the NVIDIA driver.
    pub fn of_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cpu_millis = u32::try_from(cores.saturating_mul(1000)).unwrap_or(u32::MAX);
        let resources = Resources { cpu_millis, memory_bytes: memory_bytes(), gpus: gpus() };
        Self { labels: BTreeMap::new(), resources }
    }

    /// Whether a task with these labels may run here.
    pub fn has_labels(&self, wanted: &BTreeMap<String, String>) -> bool {
        wanted.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }
}

/// The smaller of the machine's memory and the control group's limit.
fn memory_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let machine = machine.map_or(u64::MAX, |kibibytes| kibibytes.saturating_mul(1024));
    machine.min(limit.unwrap_or(u64::MAX))
}

fn gpus() -> u32 {
    let found = std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    u32::try_from(found).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_core_and_memory_and_labels_must_be_equal() {
        let mut offer = Offer::of_this_machine();
        assert!(offer.resources.cpu_millis >= 1000);
        assert!(offer.resources.memory_bytes > 64 << 20);
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        offer.labels = labels(&[("zone", "a"), ("disk", "ssd")]);
        assert!(offer.has_labels(&labels(&[])));
        assert!(offer.has_labels(&labels(&[("zone", "a")])));
        assert!(!offer.has_labels(&labels(&[("zone", "b")])));
        assert!(!offer.has_labels(&labels(&[("zone", "a"), ("gpu", "a100")])));
    }
}
