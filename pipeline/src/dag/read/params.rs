//! Reads `params:` of a DAG.

use super::super::mistake::Collector;
use super::super::params::{Param, ParamType};
use super::super::yaml::Node;
use super::common::{check_name, clip};
use super::keys;
use crate::dag::hint;

pub(super) fn read(node: &Node, out: &mut Collector) -> Vec<Param> {
    let mut params = Vec::new();
    for (name, place, node) in node.entries("`params`", out) {
        check_name(name, place, &format!("parameter `{}`", clip(name)), false, out);
        let what = format!("parameter `{}`", clip(name));
        let mut param =
            Param { name: name.to_string(), kind: ParamType::String, description: String::new(), default: None };
        let mut typed = false;
        let mut default = None;
        for (key, _, node) in node.fields(&what, &keys::PARAM, out) {
            match key {
                "type" => {
                    typed = true;
                    let Some(kind) = node.string("`type`", out) else { continue };
                    match ParamType::from_name(&kind) {
                        Some(kind) => param.kind = kind,
                        None => out.add(
                            node.place,
                            format!("unknown type `{}`{}", clip(&kind), hint(&kind, ParamType::NAMES)),
                        ),
                    }
                }
                "description" => param.description = node.string("`description`", out).unwrap_or_default(),
                _ => default = Some(node),
            }
        }
        if !typed {
            out.add(place, format!("{what} has no type; add `type:` with one of {}", ParamType::NAMES.join(", ")));
        }
        if let Some(node) = default {
            let value = node.to_json();
            if typed && !param.kind.fits(&value) {
                out.add(
                    node.place,
                    format!("the default of {what} must be of type {}, but is {}", param.kind, node.kind()),
                );
            }
            param.default = Some(value);
        }
        params.push(param);
    }
    params
}
