resource "aws_security_group" "host" {
  count = var.create ? 1 : 0

  name_prefix = "npcnix-${var.hostname}-"
  description = "npcnix host ${var.hostname}"
  vpc_id      = var.subnet.vpc_id
  tags        = local.tags

  egress {
    description      = "everywhere"
    protocol         = "-1"
    from_port        = 0
    to_port          = 0
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }

  dynamic "ingress" {
    for_each = toset(var.public_tcp_ports)
    content {
      description      = "${ingress.value} from everywhere"
      protocol         = "tcp"
      from_port        = ingress.value
      to_port          = ingress.value
      cidr_blocks      = ["0.0.0.0/0"]
      ipv6_cidr_blocks = ["::/0"]
    }
  }

  dynamic "ingress" {
    for_each = toset(var.internal_tcp_ports)
    content {
      description      = "${ingress.value} from the VPC"
      protocol         = "tcp"
      from_port        = ingress.value
      to_port          = ingress.value
      cidr_blocks      = [var.subnet.vpc.cidr_block]
      ipv6_cidr_blocks = compact([var.subnet.vpc.ipv6_cidr_block])
    }
  }

  lifecycle {
    create_before_destroy = true # a group in use cannot be deleted
  }
}

resource "aws_eip" "host" {
  count = var.create && var.eip ? 1 : 0

  domain = "vpc"
  tags   = local.tags
}

resource "aws_eip_association" "host" {
  count = var.create && var.eip ? 1 : 0

  instance_id   = aws_instance.host[0].id
  allocation_id = aws_eip.host[0].id
}

locals {
  private_name = var.dns_zone == null || !var.create ? null : "private.${var.hostname}.${trimsuffix(var.dns_zone.name, ".")}"
}

resource "aws_route53_record" "private_a" {
  count = local.private_name == null ? 0 : 1

  zone_id = var.dns_zone.zone_id
  name    = local.private_name
  type    = "A"
  ttl     = 300
  records = [aws_instance.host[0].private_ip]
}

resource "aws_route53_record" "private_aaaa" {
  count = local.private_name != null && local.ipv6 ? 1 : 0

  zone_id = var.dns_zone.zone_id
  name    = local.private_name
  type    = "AAAA"
  ttl     = 300
  records = aws_instance.host[0].ipv6_addresses
}
