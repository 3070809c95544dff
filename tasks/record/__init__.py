"""What a run leaves behind on the operator: its journal, its log and its report."""
