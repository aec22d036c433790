"""The network over whole scenes: pairs of scenes, windows without seams, blocks."""
