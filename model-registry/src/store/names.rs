//! Names for runs and models that nobody named: an adjective, an animal, a number.

use rand::RngExt as _;

const ADJECTIVES: [&str; 64] = [
    "agile", "alert", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "clever", "coastal", "crisp",
    "curious", "daring", "deft", "dusky", "eager", "early", "fleet", "fluffy", "frosty", "gentle", "golden", "grand",
    "hardy", "hazy", "hidden", "humble", "icy", "jolly", "keen", "kind", "lively", "lone", "lucky", "lunar", "mellow",
    "mighty", "misty", "nimble", "noble", "patient", "placid", "plucky", "proud", "quick", "quiet", "rapid", "rustic",
    "sandy", "shy", "silent", "sleek", "snowy", "solar", "spry", "steady", "sturdy", "sunny", "swift", "tidy", "vivid",
    "wary", "wild",
];

const ANIMALS: [&str; 64] = [
    "aardvark", "antelope", "badger", "bat", "bear", "beaver", "bison", "boar", "bobcat", "bongo", "buffalo",
    "caracal", "caribou", "cheetah", "civet", "coati", "cougar", "coyote", "crane", "deer", "dingo", "dormouse",
    "duiker", "eagle", "eland", "elk", "ermine", "falcon", "ferret", "fox", "gazelle", "genet", "gibbon", "giraffe",
    "gnu", "hare", "hedgehog", "heron", "hyena", "ibex", "impala", "jackal", "jaguar", "kudu", "leopard", "lion",
    "lynx", "marten", "mongoose", "moose", "ocelot", "okapi", "oryx", "otter", "panther", "puma", "quail", "serval",
    "stoat", "tapir", "vole", "weasel", "wolf", "zebra",
];

/// Such as `quiet-lynx-417`.
pub(super) fn random() -> String {
    let mut random = rand::rng();
    let adjective = ADJECTIVES[random.random_range(0..ADJECTIVES.len())];
    let animal = ANIMALS[random.random_range(0..ANIMALS.len())];
    format!("{adjective}-{animal}-{}", random.random_range(0..1000))
}
