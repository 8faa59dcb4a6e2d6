-- Carried out once, when the disk is empty. The registry's tables have names that those of runs have, too.
CREATE DATABASE registry;
