variable "name" {
  description = "Beginning of all names; buckets need one that nobody else has."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,30}$", var.name))
    error_message = "Give 3 to 31 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "region" {
  description = "Where everything is."
  type        = string
  default     = "eu-west-1"
}

variable "zones" {
  description = "Availability zones."
  type        = number
  default     = 3

  validation {
    condition     = var.zones >= 2 && var.zones <= 3
    error_message = "Give 2 or 3."
  }
}

variable "network" {
  description = "Addresses of the network."
  type        = string
  default     = "10.40.0.0/16"
}

variable "kubernetes_version" {
  description = "Version of the cluster."
  type        = string
  default     = "1.34"
}

variable "api_clients" {
  description = "Addresses that may reach the cluster's API from outside; none: only from within the network."
  type        = list(string)
  default     = []
}

variable "cpu_nodes" {
  description = "Nodes without a GPU: kind, fewest and most."
  type = object({
    instance_type = string
    min           = number
    max           = number
  })
  default = { instance_type = "m6i.2xlarge", min = 3, max = 10 }
}

variable "gpu_nodes" {
  description = "Nodes with one T4 each: kind, fewest and most."
  type = object({
    instance_type = string
    min           = number
    max           = number
  })
  default = { instance_type = "g4dn.2xlarge", min = 1, max = 5 }

  validation {
    condition     = var.gpu_nodes.min >= 1 && var.gpu_nodes.max <= 5 && startswith(var.gpu_nodes.instance_type, "g4dn.")
    error_message = "Give 1 to 5 nodes of g4dn, which have T4 cards."
  }
}

variable "database" {
  description = "PostgreSQL: kind, GiB at first and at most, days of backups."
  type = object({
    instance_class = string
    storage        = number
    max_storage    = number
    backup_days    = number
  })
  default = { instance_class = "db.m6g.large", storage = 100, max_storage = 1000, backup_days = 30 }
}

variable "media_buckets" {
  description = "Buckets of yours that hold photographs and videos; workers may read them."
  type        = list(string)
  default     = []
}
