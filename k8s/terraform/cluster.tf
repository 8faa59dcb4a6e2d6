# The cluster and its two pools of nodes.
resource "aws_kms_key" "secrets" {
  description         = "Secrets of the cluster ${var.name}"
  enable_key_rotation = true
}

resource "aws_eks_cluster" "main" {
  name                      = var.name
  version                   = var.kubernetes_version
  role_arn                  = aws_iam_role.cluster.arn
  enabled_cluster_log_types = ["api", "audit", "authenticator"]

  access_config {
    authentication_mode = "API"
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = aws_kms_key.secrets.arn
    }
  }

  vpc_config {
    subnet_ids              = [for subnet in aws_subnet.private : subnet.id]
    endpoint_private_access = true
    endpoint_public_access  = length(var.api_clients) > 0
    public_access_cidrs     = length(var.api_clients) > 0 ? var.api_clients : null
  }

  depends_on = [aws_iam_role_policy_attachment.cluster]
}

# The agent of network policies is part of vpc-cni, and off unless it is asked for.
resource "aws_eks_addon" "network" {
  cluster_name         = aws_eks_cluster.main.name
  addon_name           = "vpc-cni"
  configuration_values = jsonencode({ enableNetworkPolicy = "true" })
}

resource "aws_eks_addon" "other" {
  for_each     = toset(["coredns", "kube-proxy", "metrics-server"])
  cluster_name = aws_eks_cluster.main.name
  addon_name   = each.key
  depends_on   = [aws_eks_node_group.cpu]
}

resource "aws_eks_addon" "files" {
  cluster_name             = aws_eks_cluster.main.name
  addon_name               = "aws-efs-csi-driver"
  service_account_role_arn = aws_iam_role.files.arn
  depends_on               = [aws_eks_node_group.cpu]
}

# Pods have roles of their own: they may not ask for the node's credentials.
resource "aws_launch_template" "nodes" {
  name_prefix = "${var.name}-"

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size = 100
      volume_type = "gp3"
      encrypted   = true
    }
  }
}

resource "aws_eks_node_group" "cpu" {
  cluster_name    = aws_eks_cluster.main.name
  node_group_name = "cpu"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [for subnet in aws_subnet.private : subnet.id]
  instance_types  = [var.cpu_nodes.instance_type]
  ami_type        = "AL2023_x86_64_STANDARD"
  labels          = { "safari/pool" = "cpu" }

  launch_template {
    id      = aws_launch_template.nodes.id
    version = aws_launch_template.nodes.latest_version
  }

  scaling_config {
    min_size     = var.cpu_nodes.min
    desired_size = var.cpu_nodes.min
    max_size     = var.cpu_nodes.max
  }

  # An autoscaler of the cluster changes it.
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}

# T4 cards. Only what tolerates the taint comes here.
resource "aws_eks_node_group" "gpu" {
  cluster_name    = aws_eks_cluster.main.name
  node_group_name = "gpu"
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [for subnet in aws_subnet.private : subnet.id]
  instance_types  = [var.gpu_nodes.instance_type]
  ami_type        = "AL2023_x86_64_NVIDIA"
  labels          = { "safari/pool" = "gpu" }

  launch_template {
    id      = aws_launch_template.nodes.id
    version = aws_launch_template.nodes.latest_version
  }

  scaling_config {
    min_size     = var.gpu_nodes.min
    desired_size = min(3, var.gpu_nodes.max)
    max_size     = var.gpu_nodes.max
  }

  taint {
    key    = "nvidia.com/gpu"
    value  = "present"
    effect = "NO_SCHEDULE"
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}
