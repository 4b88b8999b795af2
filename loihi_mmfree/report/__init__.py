"""What a network costs on Loihi 2: activity, placement and published figures in; time, energy and pages out."""
