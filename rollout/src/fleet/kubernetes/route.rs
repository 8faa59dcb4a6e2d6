//! Weights in an HTTPRoute of the Gateway API (<https://gateway-api.sigs.k8s.io/reference/spec/>, `gateway.networking.k8s.io/v1`):
//! of each rule that sends requests to the stable Service, a share goes to the canary's.

use serde_json::{Value, json};

/// The two Services of a rollout, and their namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Services<'a> {
    pub(super) namespace: &'a str,
    pub(super) stable: &'a str,
    pub(super) canary: &'a str,
}

/// The rules of a route after the canary was given `percent` of the requests.
///
/// # Errors
/// No rule sends requests to the stable Service, or one shares them with others; in words.
pub(super) fn share(rules: &Value, services: Services<'_>, percent: u8) -> Result<Value, String> {
    let mut shared = rules.clone();
    let mut found = false;
    for (number, rule) in shared.as_array_mut().into_iter().flatten().enumerate() {
        let Some(backends) = rule["backendRefs"].as_array() else { continue };
        let stable = backends.iter().find(|backend| is(backend, services, services.stable));
        let canary = backends.iter().find(|backend| is(backend, services, services.canary));
        let Some(ours) = stable.or(canary) else { continue };
        if backends.len() > usize::from(stable.is_some()) + usize::from(canary.is_some()) {
            return Err(format!(
                "rule {} sends requests to others besides Service {}; a rollout shares out rules of one Service only",
                number + 1,
                services.stable
            ));
        }
        let with = |name: &str, weight: u8| {
            let mut backend = ours.clone();
            backend["name"] = json!(name);
            backend["weight"] = json!(weight);
            backend
        };
        rule["backendRefs"] = match percent {
            0 => json!([with(services.stable, 1)]),
            _ => json!([with(services.stable, 100 - percent.min(100)), with(services.canary, percent.min(100))]),
        };
        found = true;
    }
    if found { Ok(shared) } else { Err(format!("none of its rules sends requests to Service {}", services.stable)) }
}

/// Whether requests may come to the canary.
pub(super) fn reaches_canary(rules: &Value, services: Services<'_>) -> bool {
    let backends = rules.as_array().into_iter().flatten().flat_map(|rule| rule["backendRefs"].as_array());
    backends.flatten().any(|backend| is(backend, services, services.canary) && backend["weight"] != 0)
}

/// Whether any gateway does what it says.
pub(super) fn has_gateway(route: &Value) -> bool {
    route["status"]["parents"].as_array().is_some_and(|parents| !parents.is_empty())
}

/// Says what is missing until every gateway of the route does what it says now.
///
/// # Errors
/// Why it is not so yet; in words.
pub(super) fn observed(route: &Value, generation: i64) -> Result<(), String> {
    let none = Vec::new();
    let parents = route["status"]["parents"].as_array().unwrap_or(&none);
    if parents.is_empty() {
        return Err("no gateway has taken it; does its parentRefs name a Gateway that is there".to_owned());
    }
    for parent in parents {
        let gateway = parent["parentRef"]["name"].as_str().unwrap_or("?");
        for condition in parent["conditions"].as_array().unwrap_or(&none) {
            let kind = condition["type"].as_str().unwrap_or_default();
            if !matches!(kind, "Accepted" | "ResolvedRefs") {
                continue;
            }
            // A gateway that says nothing of generations cannot be waited for.
            if condition["observedGeneration"].as_i64().is_some_and(|observed| observed < generation) {
                return Err(format!("gateway {gateway} has not looked at its last change yet"));
            }
            if condition["status"] == "False" {
                let message = condition["message"].as_str().unwrap_or_default();
                let reason = condition["reason"].as_str().unwrap_or(kind);
                return Err(format!("gateway {gateway} refuses it: {reason}: {message}"));
            }
        }
    }
    Ok(())
}

/// Whether a backend is this Service of our namespace.
fn is(backend: &Value, services: Services<'_>, name: &str) -> bool {
    let says = |key: &str, usual: &str| backend[key].as_str().unwrap_or(usual).to_owned();
    says("kind", "Service") == "Service"
        && says("group", "").is_empty()
        && says("namespace", services.namespace) == services.namespace
        && says("name", "") == name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SERVICES: Services<'_> = Services { namespace: "safari", stable: "detection", canary: "detection-canary" };

    fn rules() -> Value {
        json!([
            {"matches": [{"path": {"value": "/v1"}}], "backendRefs": [{"name": "detection", "port": 8080, "filters": [1]}]},
            {"matches": [{"path": {"value": "/auth"}}], "backendRefs": [{"name": "api", "port": 8750}]},
            {"filters": [{"type": "RequestRedirect"}]},
        ])
    }

    #[test]
    fn only_rules_of_the_service_are_shared_out() {
        let shared = share(&rules(), SERVICES, 20).unwrap();
        let expected = json!([
            {"name": "detection", "port": 8080, "filters": [1], "weight": 80},
            {"name": "detection-canary", "port": 8080, "filters": [1], "weight": 20},
        ]);
        assert_eq!(shared[0]["backendRefs"], expected);
        assert_eq!((&shared[1], &shared[2]), (&rules()[1], &rules()[2]));
        assert!(reaches_canary(&shared, SERVICES) && !reaches_canary(&rules(), SERVICES));
        let all = share(&shared, SERVICES, 100).unwrap();
        assert_eq!(
            (&all[0]["backendRefs"][0]["weight"], &all[0]["backendRefs"][1]["weight"]),
            (&json!(0), &json!(100))
        );
        // Somebody has removed the stable one meanwhile.
        let mut alone = all.clone();
        alone[0]["backendRefs"].as_array_mut().unwrap().remove(0);
        for shared in [shared, all, alone] {
            let back = share(&shared, SERVICES, 0).unwrap();
            let expected = json!([{"name": "detection", "port": 8080, "filters": [1], "weight": 1}]);
            assert_eq!(back[0]["backendRefs"], expected);
            assert_eq!(share(&back, SERVICES, 0).unwrap(), back, "the same again");
        }
    }

    #[test]
    fn routes_that_cannot_be_shared_out_are_told() {
        let elsewhere = json!([{"backendRefs": [{"name": "detection", "namespace": "other", "port": 1}]}]);
        assert!(share(&elsewhere, SERVICES, 5).unwrap_err().contains("none of its rules sends requests to Service"));
        assert!(share(&Value::Null, SERVICES, 5).is_err());
        let others = json!([{"backendRefs": [{"name": "detection"}, {"name": "old"}]}]);
        assert!(share(&others, SERVICES, 5).unwrap_err().contains("rule 1 sends requests to others"));
    }

    #[test]
    fn gateways_are_waited_for() {
        let status = |conditions: Value| json!({"status": {"parents": [{"parentRef": {"name": "kong"}, "conditions": conditions}]}});
        let good = |generation: i64| json!({"type": "Accepted", "status": "True", "observedGeneration": generation});
        assert_eq!(observed(&status(json!([good(4)])), 4), Ok(()));
        assert!(observed(&status(json!([good(3)])), 4).unwrap_err().contains("kong has not looked"));
        assert!(observed(&json!({}), 4).unwrap_err().contains("no gateway"));
        let bad = json!({"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "gone"});
        assert!(observed(&status(json!([good(4), bad])), 4).unwrap_err().contains("refuses it: BackendNotFound: gone"));
    }
}
