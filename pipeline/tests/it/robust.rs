//! Text that is meant to break the reader: no panic, no overflow, no long wait, always a message.

use std::time::{Duration, Instant};

use pipeline::Dag;
use pipeline::dag::MAX_YAML_BYTES;

/// Parses on a small stack, in bounded time.
#[track_caller]
fn survives(yaml: String) -> Option<String> {
    let began = Instant::now();
    let parsed = std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(move || Dag::parse("d.yaml", &yaml).err().map(|error| error.to_string()))
        .unwrap()
        .join()
        .expect("the reader panicked");
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    parsed
}

#[test]
fn size_is_bounded() {
    let told = survives(format!("dag: d\n# {}\n", "x".repeat(MAX_YAML_BYTES))).unwrap();
    assert!(told.contains("more than the 1048576 allowed"), "{told}");
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("a:\n ", ""), ("? ", ""), ("!x ", ""), ("&a ", "")] {
        for depth in [30, 1_000, 100_000] {
            let yaml = format!("dag: d\ntasks: {}1{}", open.repeat(depth), close.repeat(depth));
            assert!(survives(yaml).is_some(), "{open} {depth}");
        }
    }
    let mut indented = String::new();
    for depth in 0..500 {
        indented.push_str(&format!("{}a:\n", " ".repeat(depth)));
    }
    assert!(survives(indented).unwrap().contains("nested too deeply"));
}

#[test]
fn aliases_cannot_grow() {
    let mut bomb = "dag: d\nx: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n".to_string();
    for level in 1..30 {
        let list = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("x{level}: &a{level} [{list}]\n"));
    }
    let told = survives(bomb).unwrap();
    assert!(told.contains("aliases"), "{told}");
    assert!(survives("dag: &a [*a]\n".to_string()).is_some());
    assert!(survives("dag: *nobody\n".to_string()).is_some());
    // Honest use of an alias is fine.
    assert_eq!(
        survives("dag: d\ntasks:\n  a: {job: x, retries: &r 3}\n  b: {job: x, retries: *r}\n".to_string()),
        None
    );
}

#[test]
fn templates_cannot_overflow() {
    for code in
        ["(".repeat(50_000), "a.".repeat(50_000), "not ".repeat(50_000), "{{".repeat(50_000), "{%if 1%}".repeat(50_000)]
    {
        let yaml = format!(
            "dag: d\ntasks:\n  a: {{job: x, with: {{v: '{{{{ {code}'}}}}\n  b: {{job: x, with: {{v: '{{{{ {code}1 }}}}'}}}}\n"
        );
        assert!(survives(yaml).is_some());
    }
}

#[test]
fn many_tasks_and_names_stay_fast() {
    let mut yaml = "dag: d\ntasks:\n".to_string();
    for task in 0..4_000 {
        yaml.push_str(&format!("  t{task}: {{job: x, needs: [u{task}, t{}]}}\n", (task + 1) % 4_000));
    }
    let told = survives(yaml).unwrap();
    assert!(told.lines().count() <= 100, "{}", told.lines().count());
    let chain: String = (1..4_000).map(|task| format!("  t{task}: {{job: x, needs: [t{}]}}\n", task - 1)).collect();
    assert_eq!(survives(format!("dag: d\ntasks:\n  t0: {{job: x}}\n{chain}")), None);
    let many: String = (0..20_000).map(|task| format!("  t{task}: {{job: x}}\n")).collect();
    assert!(survives(format!("dag: d\ntasks:\n{many}")).unwrap().contains("more than the 5000 allowed"));
}

#[test]
fn odd_texts() {
    for yaml in [
        "\u{feff}dag: d",
        "\0",
        "dag: \u{85}\u{2028}",
        "%YAML 9.9\n---\na",
        "<<: {a: 1}",
        "dag: .nan",
        "dag: 1e999",
        "? [a]\n: b",
        "dag: !!binary zzz",
        "dag: !!int x",
        "dag: \"\\ud800\"",
        "--- |\n text",
        "a: b: c",
        "*a",
        "!",
        "&a",
        "...",
        "---\n---\n",
        "dag: d\ntasks: {a: {job: x, timeout: 99999999999999999999999d}}",
        "dag: d\ntasks: {\"\": {job: x}}",
        "dag: 'é'",
        "dag: d\ntasks: {a: {job: x, with: {é: \"ü{{ parms.é }}\"}}}",
    ] {
        survives(yaml.to_string());
    }
}

/// A seeded stand-in for a fuzzer: mutations of a good file.
#[test]
fn mutations_never_panic() {
    let good = "dag: d\nparams: {p: {type: string, default: \"x\"}}\ntasks:\n  a: {job: x, with: {v: \"{{ params.p }} {% if 1 %}{{ run.id }}{% endif %}\"}}\n  b:\n    job: y\n    needs: [a]\n    map: \"{{ tasks.a.output | list }}\"\n    with: &w {i: '{{ item.x }}', n: [1, 2.5, true, ~]}\n    timeout: 1h\n    retries: 3\n";
    let parts = [
        "{{", "}}", "{%", "%}", "'", "\"", "[", "]", "{", "}", ":", "\n", "  ", "- ", "&a ", "*a", "|", ">", "#",
        "!!int ", "é", "\\", "\t", "0", "?",
    ];
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let worker = std::thread::Builder::new().stack_size(1024 * 1024).spawn(move || {
        for _ in 0..20_000 {
            let mut text: Vec<char> = good.chars().collect();
            for _ in 0..1 + random(6) {
                let at = random(text.len());
                match random(3) {
                    0 => drop(text.remove(at)),
                    1 => text.splice(at..at, parts[random(parts.len())].chars()).for_each(drop),
                    _ => {
                        let to = (at + random(20)).min(text.len());
                        let part: Vec<char> = text[at..to].to_vec();
                        let into = random(text.len());
                        text.splice(into..into, part);
                    }
                }
            }
            let text: String = text.into_iter().collect();
            if let Err(error) = Dag::parse("d.yaml", &text) {
                assert!(error.to_string().starts_with("d.yaml:"), "{error}");
            }
        }
    });
    worker.unwrap().join().expect("the reader panicked");
}
